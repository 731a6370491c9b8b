"""Serving of one variant: from a query's record to its acknowledged answer.

Reading order: model (a variant and its loading), loading (memory, failed loads, slots per batch) -> pending_query ->
codec (records to work, outputs to records) -> metrics -> answers (to the outbox; backlog) -> computation (of a batch)
-> health (slowdown, load, drift), corrected_profile (latency predictions), offline_throttle -> instance (path of a
query, top to bottom).
"""
