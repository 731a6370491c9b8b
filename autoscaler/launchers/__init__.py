"""What starts and stops workers: one module for each kind of place where they can run.

Reading order: base (what a launcher is) -> registry (which there are) -> null (none), processes (of this machine) ->
worker_template (what a person says of a cluster's machines) -> kubernetes, ray.
"""
