"""Simulated comparison of INFaaS on Kafka with other systems and with the oracle's bound.

Reading order: workloads -> comparison -> page -> __main__ (runs all, and writes docs/systems.md).
"""
