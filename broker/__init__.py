"""Kafka, and the only package that speaks to it.

Reading order: settings -> client (every aiokafka object is built there) -> kafka_types -> features -> topics ->
producer -> watermark, ledger, consumer (each record at least once) -> tail -> request_reply -> dead_letters -> outbox
-> offsets, commits, trail, ages, lag (how far groups are behind) -> readiness, embedded, apache (brokers on this
machine) -> jars, maven_repository (what apache needs).
"""
