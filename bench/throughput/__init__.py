"""Throughput of each part in queries per second, and CPU cost of a query and of a fetch, against a bare program.

Reading order: selector -> kafka_loop (the bare program beside a worker) -> worker -> runtimes (other than onnxruntime)
-> gateway_baseline (the bare program beside a gateway) -> gateway -> gateway_options (gRPC, TLS and keys, against a
gateway without) -> cost (CPU per query of all processes) -> tracing (with traces over without) -> fetch (beside idle
partitions).
"""
