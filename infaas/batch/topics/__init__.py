"""Batch jobs from topic to topic, exactly once, run by any number of processes that share the partitions.

Reading order: record_query (a record as a query, and its answer in the same format) -> record_chunk (records as a
chunk, and their outcomes) -> topic_output (output topics of the outcomes) -> topic_job.
"""
