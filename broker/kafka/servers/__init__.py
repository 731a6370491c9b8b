"""Kafka brokers on this machine: Apache Kafka, and an embedded broker for trials.

Reading order: broker_process (process of a broker, may be started again) -> jars (source of Apache Kafka) -> apache
(Apache Kafka, also with a password) -> embedded.
"""
