"""The Open Inference Protocol over HTTP.

Reading order: translation (a request to a record's headers) -> inference (the main job) -> metadata, health -> errors
(JSON, always).
"""
