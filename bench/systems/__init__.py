"""Simulated comparison of INFaaS on Kafka with other systems and with the oracle's bound.

Reading order: workloads -> comparison -> missed (aims that are not reached) -> page -> __main__ (runs all, and writes
docs/systems.md).
"""
