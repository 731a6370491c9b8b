"""What makes tensors of a client's text or image, and answers of scores: one file for each kind of step.

Reading order: tokenise, image (before the model) -> classes (after it) -> session (a model with its steps around it).
What steps there are, as data, is in `schemas/rows/processing.py`.
"""
