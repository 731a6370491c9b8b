"""What the parts say to one another: wire structs, row types, names, headers, topics and errors.

The lowest layer. Nouns only: validation, but no I/O, no clock and no policy.

Reading order: names, worker_names, access -> principal (who asks) -> errors -> defaults -> headers -> topics -> needs
-> spelling -> send_time -> query, cloudevents -> result -> jobs, webhooks (queries that outlive who asked them) ->
load_classes (what is counted) -> status -> hardware, slots, interpolation, latency, length -> rows (what Postgres
keeps) -> registrations (what is to be registered, by the admin API) -> versions -> tensors -> casts, classification,
reserved_parameters -> oip -> request_size (what a record can hold) -> endpoints (the admin API) -> documents (the wire
contract for machines).
"""
