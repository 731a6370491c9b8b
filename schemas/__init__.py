"""Vocabulary that all packages share: wire structs, row types, names, headers, topics and errors.

This is the lowest layer. It holds nouns only: validation, but no I/O, no clock and no policy.

Reading order: names, worker_names, access -> principal (authenticated callers) -> errors -> defaults -> headers ->
topics -> needs -> spelling -> send_time -> query, cloudevents -> result -> jobs (queries that outlive their request) ->
load_classes (load counts), offline_share (pace of offline queries) -> status -> hardware, slots, interpolation,
latency, length -> rows (Postgres rows) -> registrations (requests to register models) -> versions -> tensors -> casts,
classification, reserved_parameters -> oip -> request_size (limits of a record) -> endpoints (the admin API) ->
documents (the wire contract for machines).
"""
