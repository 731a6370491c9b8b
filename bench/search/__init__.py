"""Search for workloads under which the production policy does badly, and the cases that are kept.

Reading order: case (a workload and a system by few numbers) -> audit (refusals in vain) -> verdict (figures beside
baselines and the oracle) -> hill_climb -> kept -> __main__ (searches, or writes docs/losses.md).
"""
