"""A whole system on one machine: the supervisor of `infaas up`, and the queries of `infaas demo`.

Reading order: options (options of `infaas up`), metrics_ports (ports of metrics and health) -> state (state file that
other commands read) -> processes (supervised services and servers) -> kafka_server (choice and start of Kafka) ->
local_workers (devices, cores and memory of the workers, and their processes) -> system (the whole system) ->
optional_zoo (the demo models, if installed), ready_tasks (tasks that have a variant already), demo (the queries of
`infaas demo`).
"""
