"""Processing around a model: tensors from a client's text or image, and answers from scores; one file per kind of step.

Reading order: tokenise, image (before the model) -> classes (after it) -> session (a model with its steps around it).
`schemas/rows/processing.py` defines the steps as data.
"""
