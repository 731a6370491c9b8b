"""Exactly-once processing from topic to topic: records that follow and the offset read are written in one transaction.

Reading order: partition_writer (transactions and fencing) -> partition_stream (an assigned partition) -> shared_topic
(assignment and progress of all partitions).
"""
