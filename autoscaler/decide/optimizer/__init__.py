"""How many instances and workers there should be: the problem in numbers, and two ways to solve it."""
