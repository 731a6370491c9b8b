"""A whole system on one machine: what `infaas up` starts, watches and stops.

Reading order: options (what to start) -> state (what other commands are told of it) -> kafka_server (which Kafka, and
its start) -> child (a process that is kept running) -> local_workers (the worker processes) -> system (all of it).
"""
