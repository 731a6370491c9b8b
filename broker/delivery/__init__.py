"""Records read at least once and finished in any order.

Reading order: watermark (up to where all of a partition is finished) -> in_flight (what is handed out, over all
partitions) -> consumer (Kafka).
"""
