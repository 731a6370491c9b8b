"""The `infaas` command line, one module per group of commands.

Reading order: main (all commands) -> connect (address of the system), admin_client (admin requests, by a gateway or
locally), output (tables, JSON, errors, progress bars), moments (parsing of times), options (options generated from
request structs), parameters (of a model) -> jobs -> health (lag, status of a remote system), top, console (address of
the pages), status (also down), system (up), demo_chat, demo -> access (owners and permissions) -> uploads (files sent
to a gateway), registrations (registrations of a gateway, and their results) -> register, processing, composites
(cascades and chains), unregister, listing, versions, plot (registered models) -> simulate_flags, simulate_errors (exit
codes), simulate_compare, simulate, plan (simulations) -> record (traces of queries) -> catalogue (files for the
simulator) -> calibrate -> text_stream (answers as they are made), query (query and explain), mcp (tools of agents) ->
batch_flags, batch_bar, batch_topics, batch (batch jobs) -> scale -> keys (API keys) -> dead_letters, tenants, audit
(administrative actions), database.
"""
