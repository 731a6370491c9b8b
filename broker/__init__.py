"""Kafka, and the only package that speaks to it.

Reading order: settings -> client (every aiokafka object is built there) -> topics -> producer -> watermark ->
consumer -> tail -> replies -> lag -> dead_letters; embedded and apache start brokers on this machine.
"""
