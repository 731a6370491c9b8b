"""Access to Kafka: the only package that uses its protocol.

Reading order: kafka (clients, settings, topics, requests; brokers on this machine) -> arrivals (rates of queries) ->
producing (writes records in batches) -> fetch (reads partitions) -> dead_letters (records that could not be processed)
-> replies (requests and their results) -> delivery (at-least-once and exactly-once processing) -> lag (consumer lag) ->
topic_logs (ends, sizes and segments of logs) -> system_claim (owner of a namespace).
"""
