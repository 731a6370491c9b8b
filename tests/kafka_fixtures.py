"""Fixtures: running Kafka brokers."""
