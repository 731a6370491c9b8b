"""Lifecycle of a service process (start, health, supervision, shutdown) and access to its machine.

Reading order: errors (as messages), module_names (in a checkout and in a wheel), backoff, pauses (retries, waits),
threads (contexts that block) -> outages (log a failure once) -> logs (text or JSON) -> sockets (ports, exposure) ->
settings (common to all services), secrets (files, environment) -> security (pure: permissions, keys, signatures),
signing (of queries) -> start (signals before a service serves) -> command_line (flags and --check) -> loop_delay (a
metric), tracing (of sampled queries) -> run (signals, drain, exit code) -> health (metrics and health), probe (for
containers), tls (of listeners), gateway_access (of clients) -> parent_death, subprocesses (with a log each), sandbox
(for untrusted commands) -> home (its name, commands to its supervisor) -> cpus, memory (of this machine), collection
(of garbage) -> version.
"""
