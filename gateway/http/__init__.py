"""The Open Inference Protocol over HTTP, and the admin API.

Reading order: authorization (who may use which route) -> encodings (gzip and deflate) -> request_bodies (bounded in
memory and time) -> answers -> inference (the main job) -> job_requests, jobs (what may take longer than a request) ->
metadata -> pages (of others, kept out), admin (made of a table), uploads (files, as they come) -> unoffered (what
Triton has and we have not) -> document (of all these routes) -> errors (JSON, always) -> connection (bytes in, bytes
out).
"""
