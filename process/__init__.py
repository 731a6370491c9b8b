"""How a process of ours starts, is watched, is supervised and stops; and the machine it runs on.

Reading order: outages (what is away, said once) -> logs (lines, or JSON) -> exposure (who may listen where) ->
settings (what every service can be told), signing (queries, by the secret), secret_file, home_name (of this machine),
secret_variables (forgotten) -> start (until it serves) -> command_line (flags and --check) -> error_groups (what is
in them), run (signals, drain, exit code) -> failure_log (says once that a step fails), event_wait (between two looks)
-> hang_guard (an end to what stands still) -> health_server (metrics and health), tls (of what listens), probe (asks
for them) -> subprocesses (a process of our own), syscall_filter, sandbox (where one can do no harm), liveness (of
one) -> supervisor_socket (orders to who keeps processes running) -> os_errors (in words), ports, open_files,
priority, cpus, affinity, memory, cpu_meter, garbage_collection (of this machine and process) -> connection_errors (in
words) -> version.
"""
