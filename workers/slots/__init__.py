"""Slots of a device: which batch they compute next. Independent of queries and models.

Reading order: footprint, prefetch, large_queries, batch_queue, schedule, answer_queue, busy_time (pure) -> executor
(threads) -> crash_journal.
"""
