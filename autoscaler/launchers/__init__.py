"""What starts and stops workers: one file for each kind of place where they can run.

Reading order: protocol (what a launcher is) -> catalog (which there are) -> nobody, processes (of this machine) ->
offer (what a cluster has room for) -> kubernetes -> ray, ray_driver (the process that speaks to it), ray_worker.
"""
