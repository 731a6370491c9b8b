"""Supervisor of a whole system on one machine: starts, watches and stops the processes of `infaas up`.

Reading order: options (options of `infaas up`), metrics_ports (ports of metrics and health) -> state (state file that
other commands read) -> restart_backoff (pauses between restarts) -> server (a supervised Kafka or Postgres) ->
kafka_server (choice and start of Kafka) -> child (a supervised service) -> local_worker (device, cores and memory of
one worker), local_workers (the worker processes) -> system (the whole system).
"""
