"""Processing around a model: tensors from a client's text or image, and answers from scores.

Reading order: outputs (their specifications) -> steps (before and after the model) -> session (a model with its steps
around it).
`schemas/rows/catalog.py` defines the steps as data.
"""
