"""Worker service: one process per device, which computes the queries of the variants placed on it.

Reading order: settings, worker_identity (name of the worker), name_claim (uniqueness of the name) -> model (a variant
and its loading), footprint (slots per batch), loading (memory, failed loads) -> instance (path of a query, top to
bottom) -> codec (records to work, outputs to records), input_rows, answers (to the outbox) -> batch_queue,
large_queries, health, offline_throttle, drift, slot_backlog (pure) -> corrected_profile (latency predictions) ->
executor (slots) -> computation (of a batch), input_failure (input or model at fault) -> crash_journal, backlog,
metrics -> replacement -> lease -> instance_controller (load, serve, hand over) -> placement (assigned instances) ->
status_trigger, status -> builder (steps of registrations, beside serving) -> service -> command, __main__.
"""
