"""Number of instances and workers: the optimization problem, and two ways to solve it.

Reading order: model (requirements, options, costs and constraints) -> greedy (heuristic, at each decision) -> milp
(solver, in the background).
"""
