"""The Open Inference Protocol over HTTP.

Reading order: request_bodies (bounded in memory and time) -> answers -> inference (the main job) -> job_requests, jobs
(what may take longer than a request) -> metadata -> errors (JSON, always) -> connection (bytes in, bytes out).
"""
