"""Generators of variants, by tool.

Reading order: onnx (FP16 and INT8 without a search) -> static_int8 (INT8 with a search for the best calibration) ->
torch (ONNX, native code, and graphs for Inferentia) -> gguf (language models).
"""
