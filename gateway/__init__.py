"""The HTTP front of the same queues: the Open Inference Protocol v2, with tasks, architectures and variants as models.

An adapter. Reading order: models (what names there are) -> translation (HTTP to headers) -> queue (ask Kafka and wait)
-> delivery (is Kafka taking our records) -> counts -> routes/ -> errors (JSON, always) -> service -> command.
"""
