"""The Open Inference Protocol over gRPC: `inference.GRPCInferenceService`, with health and reflection.

Needs the extra `grpc`. `gateway/listeners.py` imports this package only if a port for gRPC is set.

Reading order: inference_pb2 (generated from the protocol's inference.proto by `make docs`) -> wire (protobuf without
copies of tensors) -> requests (from a message to the form that workers read) -> answers (from a result to a message) ->
methods (handlers of bytes, and errors) -> callers (authentication) -> service -> health, reflection -> server.
"""
