"""The autoscaler: watches lag and instance states, keeps the right variants on the right workers.

Reading order: settings -> view, window (what was heard lately) -> outage, observe (what is going on, recorded each
second) -> packing, minute, health, gauges, progress (what a record of it is made from) -> decide (pure: what should be)
-> assessment (what that is decided from) -> adviser (the solver beside it) -> act (rows and reasons, written at once)
-> launchers -> reconcile, fleet (workers that run become those that are wanted) -> service (the loops, one leader) ->
__main__.
"""
