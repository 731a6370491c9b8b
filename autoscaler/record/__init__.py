"""Samples that the autoscaler writes each second: lag and health of groups, load, answer times, instances and workers.

Reading order: recorder (takes and writes a reading) -> dated_work (offline work with a deadline) -> lag_delta (changes
since the previous reading, sums of a minute, lost records) -> group_health (health of a group by its last readings, and
its metrics) -> shadow_comparison (answers of a shadow against those of the serving version) -> instance_samples
(counters as differences), answer_times (histograms of tasks).
"""
