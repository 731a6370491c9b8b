"""How many queries a second each part takes, and what a query costs, beside a bare program.

Reading order: selector -> kafka_loop (the bare program beside a worker) -> worker, torch_program, runtimes (other than
onnxruntime) -> http_load (the load on a gateway) -> gateway_baseline (the bare program beside it) -> gateway -> turns
-> grpc_load, grpc (beside HTTP) -> tls (what it costs), price (of keys) -> cost (CPU a query of all processes).
"""
