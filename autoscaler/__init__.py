"""The autoscaler: watches lag and instance states, keeps the right variants on the right workers.

Reading order: settings -> observe (what is going on, recorded each second) -> decide (pure: what should be) -> act
(rows and reasons, written at once) -> service (the loops, one leader).
"""
