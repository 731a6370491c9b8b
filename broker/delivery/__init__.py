"""Records read at least once and finished in any order.

Reading order: watermark (up to where all of a partition is finished) -> in_flight (what is handed out, over all
partitions) -> rebalance (what the group takes and gives) -> consumer (Kafka).
"""
