"""Kafka brokers on this machine: Apache Kafka, and an embedded broker for trials.

Reading order: readiness (waits for a broker) -> broker_process (process of a broker, may be started again) -> apache
(Apache Kafka), guarded_kafka (with a password) -> jars, maven_repository (source of its jars) -> embedded.
"""
