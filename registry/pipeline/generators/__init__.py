"""The tools that make variants, one file each.

Reading order: onnx (dynamic INT8 by onnxruntime's quantiser), static_int8 (the same with calibration), nncf (INT8 by
OpenVINO's), fp16, pytorch (ONNX by torch's exporter).
"""
