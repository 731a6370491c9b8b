"""The gateway: the Open Inference Protocol v2 over HTTP and gRPC. Tasks, architectures and variants are its models.

The gateway is an adapter between clients and Kafka. Of all decisions about queries it makes one: which to refuse at
once.

Reading order: settings -> auth (callers and their tenants) -> limits (refusals without a selector) -> model_directory
(names that a tenant sees, and their metadata) -> translation (from a request to the headers of a record) -> inference
(the path of each query, and the headers of results and errors) -> generation (answers in parts) -> http, grpc (the
protocols) -> query_client (Kafka request and reply), spans (of sampled queries) -> jobs (queries that outlive the
request, a service of its own) -> openai (OpenAI's API over queries and jobs) -> console (pages for browsers) ->
statistics -> service -> __main__.
"""
