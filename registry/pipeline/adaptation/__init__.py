"""Adapts exported ONNX files so that they can be served; each change is proved or lossless.

Reading order: adapt (the steps, top to bottom) -> graph (names, constants and weights) -> batch (makes the batch the
first dimension, and variable) -> probing (finds the batch axis) -> unbatched (scalars, and models without a batch).
"""
