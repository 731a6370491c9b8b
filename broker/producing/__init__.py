"""Batches of records: the inside of `broker.producer`.

Reading order: records (records and their outcomes) -> in_flight_limit (limit for records in flight) -> partition_queue
(a partition's records, its batch in progress, its sequence) -> node_connections (partitions and connection of a
request) -> verdict (judges answers) -> produce_api (requests and answers in bytes) -> batch_sender (the loop: requests
by node) -> topic_lookup (unknown topics).
"""
