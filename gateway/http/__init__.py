"""The Open Inference Protocol over HTTP, and the admin API.

Reading order: authorization (roles of routes) -> bodies (encodings, limits of memory and time) -> answers (responses;
errors always in JSON) -> inference (queries) -> job_requests, jobs (queries that outlive the request) -> metadata
(also unsupported parts of Triton's API), manual (OpenAPI, documentation) -> admin (routes from a table, refusal of
foreign web pages), uploads (streamed files) -> connection (the HTTP protocol and its listener).
"""
