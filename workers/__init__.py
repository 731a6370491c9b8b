"""Runs models: one process per device, which computes the queries of the variants placed on it.

Reading order: settings, worker_identity (its name), name_claim (which no other has) -> model (a variant, and how it is
loaded), footprint (the slots that it takes), loading (memory, and loads that fail) -> instance (the way of a query, top
to bottom) -> codec (records to work and back), input_rows, answers (to the outbox) -> batch_queue, large_queries,
health, online_rhythm, offline_pace, drift, slot_backlog (pure) -> corrected_profile (what is predicted) -> executor
(slots) -> computation (of a batch), input_failure (whose fault it is) -> crash_journal, backlog, metrics -> replacement
-> lease -> instance_controller (load, serve, hand over) -> placement (which instances) -> status_trigger, status ->
builder (steps of registrations, beside serving) -> service -> command, __main__.
"""
