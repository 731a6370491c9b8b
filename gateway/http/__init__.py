"""The Open Inference Protocol over HTTP, and the admin API.

Reading order: authorization (roles of routes) -> encodings (gzip and deflate) -> request_bodies (limits of memory and
time) -> answers -> inference (queries) -> job_requests, jobs (queries that outlive the request) -> metadata -> pages
(refusal of foreign web pages), admin (routes from a table), uploads (streamed files) -> unoffered (parts of Triton's
API that are not supported) -> document (OpenAPI) -> errors (always JSON) -> connection (the HTTP protocol).
"""
