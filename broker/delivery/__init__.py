"""At-least-once delivery of records, which may be finished in any order.

Reading order: watermark (offset below which a partition is finished) -> in_flight (records handed out, over all
partitions) -> coordinator (committed offsets of a group) -> committer (commits watermarks) -> partition_sharing
(partitions of each member) -> group_protocol (messages between members) -> group_requests (requests to the coordinator)
-> topic_counts (numbers of partitions) -> membership (joins, gives up partitions, stays) -> unread_watch (partitions
without a reader) -> consumer (combines all).
"""
