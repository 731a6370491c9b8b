"""Kafka, and the only package that speaks to it.

Reading order: settings -> client (every aiokafka object is built there) -> kafka_types -> topics -> producer ->
watermark, ledger, consumer (each record at least once) -> membership (who shares a topic) -> tail -> replies ->
dead_letters -> offsets, commits, embedded_ends, trail, ages, lag (how far groups are behind) -> readiness, embedded,
apache (brokers on this machine).
"""
