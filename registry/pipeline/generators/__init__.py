"""The tools that make variants, one file each.

Reading order: onnx (INT8 by onnxruntime's quantiser), nncf (INT8 by OpenVINO's), fp16, pytorch (ONNX by torch's
exporter).
"""
