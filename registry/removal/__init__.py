"""Unregistering: what goes, whether it is used, and the way of its queries, topics, files and rows until it is gone.

Reading order: unused_files (artifacts that nothing else needs) -> removal_plan (what goes with a name, and why it
perhaps should not) -> leftovers (queries that nobody serves any more) -> unregister (the steps, top to bottom).
"""
