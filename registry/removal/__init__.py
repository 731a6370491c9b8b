"""Unregistering: determines the rows to remove and whether they are in use, and removes their topics, files and rows.

Reading order: unused_files (artifacts that no other row needs) -> removal_plan (rows that belong to a name, and their
uses) -> unregister (the steps, top to bottom).
"""
