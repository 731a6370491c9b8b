"""A whole system on one machine: what `infaas up` starts, watches and stops.

Reading order: options (what to start), metrics_ports (where each is watched) -> state (what other commands are told of
it) -> restart_backoff (pauses before what ended starts again) -> server (Kafka or Postgres, kept running) ->
kafka_server (which Kafka, and its start) -> child (a service that is kept running) -> local_worker (what one worker
gets of this machine), local_workers (their processes) -> system (all of it).
"""
