"""The gateway: the Open Inference Protocol v2 over HTTP and gRPC. Tasks, architectures and variants are its models.

The gateway is an adapter between clients and Kafka. Of all decisions about queries it makes one: which to refuse at
once.

Reading order: settings -> issuer_keys, authentication (of callers) -> tenants (of a request) -> refusals (shared by
both protocols) -> limits (refusals without a selector) -> model_directory (names that a tenant sees) -> translation
(from a request to the headers of a record) -> inference (the path of each query), repository (metadata of models) ->
http, grpc (the protocols) -> listeners -> query_client (Kafka request and reply) -> kafka_health (outages of Kafka) ->
statistics, remover (executes unregistering) -> service -> command, __main__.
"""
