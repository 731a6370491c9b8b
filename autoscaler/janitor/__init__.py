"""Cleanup in Kafka and Postgres by the autoscaler's leader; so no topic of work needs a retention by age.

Reading order: trimming (pure: committed records, reply topics without an owner) -> janitor (reads the state and
deletes).
"""
