"""Records read at least once and finished in any order.

Reading order: watermark (up to where all of a partition is finished) -> in_flight (what is handed out, over all
partitions) -> coordinator (what a group has committed) -> committer (when, and what) -> partition_sharing (who of a
group reads what) -> group_protocol (what its members say) -> group_requests (to whom, under which identity) ->
topic_counts (how many partitions there are) -> membership (joins, gives up, stays) -> unread_watch (partitions without
a reader) -> consumer (all).
"""
