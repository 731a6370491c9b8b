"""Worker service: one process per device, which computes the queries of the variants placed on it.

Reading order: settings, worker_name (unique name) -> slots (queue of work, executor) -> lease -> replacement ->
context (shared resources) -> conversion (of tensors to classes and element types) -> serving (queries to answers) ->
handover (its times) -> instance_controller (load, serve, hand over) -> placement (assigned instances) -> status ->
builder (steps of registrations, beside serving) -> service -> __main__.
"""
