"""Delivery of records: at least once and finished in any order, or exactly once from topic to topic.

Reading order: in_flight (records handed out, their memory, the offset below which a partition is finished) -> group
(requests to the coordinator: offsets, membership) -> committer (commits watermarks) -> assignment (partitions of each
member) -> membership (joins, gives up partitions, stays) -> consumer (combines all) -> undelivered (limits and decides
about results that were not acknowledged) -> outbox (sends, retries, gives up) -> exactly_once (transactions).
"""
