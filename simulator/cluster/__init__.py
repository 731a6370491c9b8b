"""Simulated partitions, instances and workers: queries wait, are batched by the production code, and are computed.

Reading order: query -> partition_log -> variant -> machine -> links -> instance -> worker -> cluster.
"""
