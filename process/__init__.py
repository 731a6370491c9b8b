"""Lifecycle of a service process (start, health, supervision, shutdown) and access to its machine.

Reading order: outages (log an outage once) -> logs (text or JSON) -> exposure (addresses that need a guard) -> settings
(common to all services), signing (of queries), secret_file, home_name (of this machine), secret_variables (removed from
the environment) -> start (signals before a service serves) -> command_line (flags and --check) -> error_groups
(flattened), run (signals, drain, exit code) -> failure_log (log a repeated failure once), event_wait (with a timeout)
-> backoff (pauses between attempts), retry (until a service is reachable) -> hang_guard (end a blocked process) ->
health_server (metrics and health), tls (of listeners), probe (for containers) -> subprocesses (with a log each),
syscall_filter, sandbox (for untrusted commands), liveness (of other processes) -> supervisor_socket (commands to a
supervisor) -> os_errors (as messages), ports, open_files, priority, cpus, affinity, memory, cpu_meter,
garbage_collection (of this machine and process) -> connection_errors (as messages) -> version.
"""
