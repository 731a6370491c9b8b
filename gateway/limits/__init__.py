"""Limits of a gateway: each refuses requests for a `RefusalReason` of its own.

A query passes them in the order below. Last is the maximum of queries in flight (`broker/replies/request_reply.py`). A
refusal by any of them, or by a selector, may be delayed by `backoff`.

Reading order: connections (open sockets; streams, watches and uploads) -> quotas (of keys and tokens) -> arrivals
(bytes of requests, gRPC messages that are still arriving) -> kafka_health (outages of Kafka) -> concurrency (queries in
flight, by late answers) -> admission (queries similar to one that a selector has just refused) -> backoff (delay of
refusals to clients that retry too early).
"""
