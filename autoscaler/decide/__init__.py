"""What should be where: pure functions of what was observed, shared by the service, tests and simulation.

No I/O, no clock, no randomness: ages come in as numbers.

Reading order: situation (the inputs, and the plan) -> pareto (which variants are worth serving) -> forecast, needs
(what must be served, by what it can be) -> objective (the problem in numbers) -> greedy, milp (its answers) ->
hysteresis, batches (how large they may be) -> fleet (workers) -> draft, capacity, partitions, packing (which worker
hosts what) -> decide (all of it).
"""
