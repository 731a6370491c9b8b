"""What should be where: pure functions of what was observed, shared by the service, tests and simulation.

No I/O, no clock, no randomness: ages come in as numbers. Reading order: pareto (which variants are worth serving) ->
situation (the inputs) -> capacity (what fits where) -> partitions (who serves which) -> placement (the decision).
"""
