"""Writes records in batches.

Reading order: records (records in flight, their limit and outcomes) -> partition_queue (a partition's records, its
batch in progress, its sequence) -> node_connections (partitions and connection of a request) -> produce_api (requests,
answers and their judgement) -> batch_sender (the loop: requests by node) -> topic_lookup (unknown topics) -> producer
-> closed_topics (topics that refuse further records).
"""
