"""What the autoscaler writes down each second: lag and its health, load, instances and workers.

Reading order: recorder (takes and writes a reading) -> lag_delta (what of it is new) -> group_health (how a group gets
on, by its last readings) -> loss_counter (what was deleted too early) -> lag_minute (the sums of a minute) ->
shadow_comparison (what copies of queries showed of a version) -> instance_samples (counters as differences) -> gauges
(for Prometheus).
"""
