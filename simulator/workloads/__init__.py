"""Workloads: seeded generators of traces, described as data.

Reading order: arrival_process -> poisson, gamma, markov, diurnal, flash_crowd, steps, published, servegen ->
batch_sizes -> mix (tasks and needs) -> workload (streams, a trace of a seed) -> description (JSON files and texts).
"""
