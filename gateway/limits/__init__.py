"""Limits of a gateway: each refuses requests for a `RefusalReason` of its own.

A query passes them in the order below. Between `arrivals` and `memory` the quota of its key applies
(`security/quotas.py`). Behind them are an outage of Kafka (`gateway/kafka_health.py`) and the maximum of queries in
flight (`broker/request_reply.py`). A refusal by any of them, or by a selector, may be delayed by `backoff`.

Reading order: connections (open sockets) -> calls (streams, watches, uploads) -> arrivals (gRPC messages that are
still arriving) -> memory (bytes of requests) -> concurrency (queries in flight, by late answers) -> admission (queries
similar to one that a selector has just refused) -> backoff (delay of refusals to clients that retry too early).
"""
