"""The `infaas` command line, one module per group of commands.

Reading order: main (all commands) -> connect (address of the system), control (admin requests, by a gateway or
locally), output (tables, JSON, errors), progress_bar -> jobs -> remote_status, system (up, down, status), demo ->
access (owners and permissions) -> uploads (files sent to a gateway), registered (result of a registration),
registrations (registrations of a gateway) -> register, building (place and services of a registration's steps),
processing, composites (cascades and chains), unregister, listing, versions, plot (registered models) -> query (query
and explain) -> moments (parsing of times) -> batch_bar, batch_offers, batch_topics, batch (batch jobs) -> scale, lag ->
keys (API keys) -> dead_letters, tenants, audit (administrative actions), database.
"""
