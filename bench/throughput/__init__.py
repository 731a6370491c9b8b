"""Throughput of each part in queries per second, and CPU cost of a query, against a bare program.

Reading order: selector -> kafka_loop (the bare program beside a worker) -> worker, torch_program, runtimes (other than
onnxruntime) -> http_load (the load on a gateway) -> gateway_baseline (the bare program beside it) -> gateway -> turns
-> grpc_load, grpc (against HTTP) -> tls (its cost), price (cost of keys) -> cost (CPU per query of all processes).
"""
