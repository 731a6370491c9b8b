"""The tools that make variants, one file each.

Reading order: onnx (INT8 by onnxruntime's quantiser), pytorch (ONNX by torch's exporter).
"""
