"""Generators of variants, one file for each tool.

Reading order: onnx (dynamic INT8, by onnxruntime's quantiser), static_int8 (the same with calibration), symmetric_int8
(for TensorRT), nncf (INT8, by OpenVINO's quantiser), fp16, pytorch (ONNX, by torch's exporter), aot (native code, by
torch's compiler), neuron (graphs for Inferentia).
"""
