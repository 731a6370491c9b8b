"""The front of the queues, over HTTP and gRPC: the Open Inference Protocol v2; tasks and what serves them are models.

An adapter: it decides nothing but what is refused at once.

Reading order: settings -> issuer_keys, authentication (who asks) -> tenants (as whom) -> refusals (of who may not) ->
model_directory (what names there are for whom) -> request_room (bounded in memory) -> translation (a request to a
record's headers) -> retry_pacing (when a refusal is told) -> inference (the one way of a query), repository (what is
told of models) -> http, grpc (each in its words) -> doors (opened and closed) -> admission (what is refused at once),
concurrency (how much may be on its way), job_room (how many jobs may be kept) -> job_writer (keeps them) ->
query_client (ask Kafka and wait) -> kafka_health (is Kafka taking our records) -> statistics, remover (of what is
unregistered) -> service -> command, __main__.
"""
