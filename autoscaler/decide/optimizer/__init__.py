"""How many instances and workers there should be: the problem in numbers, and two ways to solve it.

Reading order: model (requirements, options, costs, and what an allocation must satisfy) -> greedy (the heuristic, at
each decision) -> milp (the solver, beside the decisions).
"""
