"""The HTTP front of the same queues: the Open Inference Protocol v2, with tasks, architectures and variants as models.

An adapter: it decides nothing but what is refused at once.

Reading order: settings -> issuer_keys, authentication (who asks) -> tenants (as whom) -> model_directory (what names
there are for whom) -> request_room (bounded in memory) -> translation (a request to a record's headers) -> inference
(the one way of a query) -> http (routes) -> admission (what is refused at once), job_room (how many jobs may be kept)
-> job_writer (keeps them) -> query_client (ask Kafka and wait) -> kafka_health (is Kafka taking our records) ->
statistics -> service -> command, __main__.
"""
