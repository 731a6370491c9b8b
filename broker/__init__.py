"""Kafka, and the only package that speaks to it.

Reading order: settings -> client (every aiokafka object is built there) -> errors -> features -> topics -> producer ->
watermark -> ledger -> consumer -> tail -> replies -> lag -> dead_letters; readiness, embedded and apache start brokers
on this machine, jars and maven_repository fetch what apache needs.
"""
