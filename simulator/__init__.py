"""Discrete-event simulation of the system: the production decisions under virtual time.

Selection, load shedding, batching, health and scaling run as they are; the simulator replaces Kafka, Postgres, the
network and the models by distributions of their times. Nothing here does I/O, but for traces and catalogues in files.

Reading order: trace_columns, trace (arrivals) -> workloads (generators) -> traces (published ones) -> catalogue,
catalogues (variants and hardware) -> scenario, durations, events, outcomes, invariants -> cluster (partitions,
instances, workers) -> history, system -> services (gateway, selector, autoscaler) -> baselines (other systems) ->
faults, end_check, simulation, summary -> scenario_file, replications, figures, run_record, report, run_comparison ->
oracle (bounds), regret -> planning, fleet_evaluation -> calibration (real runs beside simulated ones).
"""
