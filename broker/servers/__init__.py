"""Kafka on this machine: a real one, and an embedded one to try things out.

Reading order: readiness (when a broker can be used) -> broker_process (a broker that may be started again) -> apache
(the real one), guarded_kafka (with a password) -> jars, maven_repository (where its jars come from) -> embedded.
"""
