"""Serving of one variant: from a query's record to its acknowledged answer.

Reading order: model (a variant and its loading), loading (memory, failed loads) -> pending_query -> codec (records to
work, outputs to records) -> health (slowdown, load, drift), offline_throttle -> measured_work (backlog, state, status),
instance_work (queue and measures of batches) -> metrics -> computation (of a batch) -> spans (of sampled queries) ->
answers (to the outbox) -> corrected_profile (latency predictions) -> variant_instance (partitions and reading),
instance (path of a query, top to bottom) -> generative_codec, generative_work, answer_parts, answer_run,
generative_instance (the same for answers that are made token by token) -> open_instance (one of the two kinds).
"""
