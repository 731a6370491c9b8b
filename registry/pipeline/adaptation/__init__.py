"""Adapts exported ONNX files so that they can be served; each change is proved or lossless.

Reading order: adapt (the steps, top to bottom) -> graph (names and constants in a graph) -> weights (external files,
BF16) -> class_maps (lists of maps become scores) -> batch_axis (makes the batch the first dimension) -> batch_size
(makes the batch variable).
"""
