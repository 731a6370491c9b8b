"""From topic to topic, exactly once: what follows from a record, and that it was read, are written in one transaction.

Reading order: partition_writer (transactions, and who may write them) -> partition_stream (one partition while it is
ours) -> shared_topic (which partitions are, and how far all of them are).
"""
