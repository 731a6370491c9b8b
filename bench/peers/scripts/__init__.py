"""Programs of the servers, each run in the environment of its peer, where no other package of ours is installed.

They import their framework, numpy, onnxruntime, and each other. The program of the baseline over Kafka runs in our
environment and also starts our Kafka.

Reading order: onnx_model (the model that all of them serve) -> aiohttp_server -> mosec_server -> mlserver_runtime ->
triton_model -> litserve_server -> bentoml_service -> ray_app -> kafka_server.
"""
