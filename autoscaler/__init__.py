"""The autoscaler: watches lag, load and instance states, and keeps the right variants on the right workers.

It runs a loop; the packages are the steps of the loop.

Reading order: settings -> observe (recent statuses and load, and the snapshot of both) -> record (samples, written each
second) -> decide (pure: the plan for a snapshot) -> apply (writes the plan and reconciles workers) -> launchers (start
and stop workers) -> janitor (deletes finished records and unused topics from Kafka) -> service (the loop under one
leader) -> __main__ (composition).
"""
