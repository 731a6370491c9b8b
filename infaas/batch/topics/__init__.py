"""Batch jobs from topic to topic, exactly once, by any number of processes that share the partitions.

Reading order: record_query (a record as a question, its answer in kind) -> record_chunk (records as a chunk, and what
became of each) -> topic_output (where that goes) -> topic_job.
"""
