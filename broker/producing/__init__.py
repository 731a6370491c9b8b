"""Produces records in batches: what is inside `broker.producer`.

Reading order: records (what is sent, and how it ends) -> in_flight_limit (how much may be sent at once) ->
partition_queue (a partition's records, its batch under way, its sequence) -> node_connections (which partitions go
together, and over which connection) -> verdict (what an answer means) -> produce_api (requests and answers in bytes) ->
batch_sender (the loop: requests by node) -> topic_lookup (topics that are not known yet).
"""
