"""The Open Inference Protocol over HTTP.

Reading order: authorization (who may use which route) -> encodings (gzip and deflate) -> request_bodies (bounded in
memory and time) -> answers -> inference (the main job) -> job_requests, jobs (what may take longer than a request) ->
metadata -> unoffered (what Triton has and we have not) -> document (of all these routes) -> errors (JSON, always) ->
connection (bytes in, bytes out).
"""
