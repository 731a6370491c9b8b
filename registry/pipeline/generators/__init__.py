"""One file per tool that makes variants: onnx (INT8 by onnxruntime's quantiser), pytorch (ONNX by torch's exporter)."""
