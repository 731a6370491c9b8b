"""Kafka, and the only package that speaks to it.

Reading order: settings -> client (every aiokafka object is built there) -> errors -> topics -> producer -> watermark ->
ledger -> consumer -> membership -> tail -> request_reply -> lag -> dead_letters -> outbox; readiness, embedded and
apache start brokers on this machine.
"""
