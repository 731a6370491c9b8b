"""The Open Inference Protocol over gRPC: `inference.GRPCInferenceService`, with health and reflection.

Needs the extra `grpc`. `gateway/service.py` imports this package only if a port for gRPC is set.

Reading order: inference_pb2 (generated from the protocol's inference.proto by `make docs`) -> wire (protobuf without
copies of tensors) -> messages (to the form that workers read, and back) -> header_fields, http2 (the protocol, without
I/O) -> status, message_parser, call (one call) -> connection (of a client) -> calls (methods, errors, authentication)
-> service -> open_services (health and reflection) -> server.
"""
