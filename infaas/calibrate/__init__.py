"""Calibration of the simulator on a running system: traces are played in real time, and simulated.

Reading order: sample_inputs (inputs of a task) -> trace_player (sends the queries of a trace on time) -> fleet_watch
(workers, instances and changes of the scale meanwhile) -> system_facts, service_settings (the system in the terms of
the simulator) -> machine_use, fault_infliction, real_system (one run of a scenario) -> calibration (all runs and their
comparison) -> session (from a system to its runs).
"""
