"""The servers' own programs, each run in the environment of its peer, where nothing else of ours is installed.

They import their framework, numpy, onnxruntime, and each other; the floor's, which runs in ours, starts our Kafka, too.

Reading order: onnx_model (what all of them serve) -> aiohttp_server -> mosec_server -> mlserver_runtime ->
triton_model -> litserve_server -> bentoml_service -> ray_app ->
kafka_server.
"""
