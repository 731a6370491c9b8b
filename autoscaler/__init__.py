"""The autoscaler: watches lag, load and instance states, and keeps the right variants on the right workers.

It is a loop, and the packages are its steps.

Reading order: settings -> observe (recent statuses and load, and the snapshot they make) -> record (what is written
down each second) -> decide (pure: what should be where) -> apply (rows at once, workers as soon as they can) ->
launchers (what starts and stops workers) -> janitor (what is done with is deleted from Kafka) -> service (the loop
itself, under one leader) -> command, __main__.
"""
