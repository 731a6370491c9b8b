"""Ablation: simulations without one mechanism at a time, to see which of them are worth their lines.

Switches exist here only; production code has none.

Reading order: mechanism (a switch, and the lines that it would spare) -> selector, overload, offline, worker, gateway,
autoscaler (the switches of each area) -> inventory (all of them) -> workload, fixed_workloads, scaled_workloads,
workloads (situations that need them) -> trial (a simulation without a mechanism) -> trial_log (finished trials) ->
differences (over paired seeds) -> sensitivity (settings and assumptions, halved and doubled) -> page, deleted
(mechanisms that are gone) -> __main__ (runs all, and writes docs/ablation.md).
"""
