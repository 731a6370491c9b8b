"""Kafka on this machine: a real one, and an embedded one to try things out."""
