"""What is done to an ONNX file as somebody exported it, so that it can be served; each change proved or lossless.

Reading order: adapt (the way of a file) -> graph (names and constants in a graph) -> weights (in other files, BF16) ->
class_maps (lists of maps become scores) -> batch_axis (batch first) -> batch_size (any number of inputs).
"""
