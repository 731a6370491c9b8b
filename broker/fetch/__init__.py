"""Reads partitions from given offsets: no group, no commits, no threads.

Reading order: record_batches (bytes to records, also of damaged batches) -> fetched_partition (fetched data of one
partition) -> fetch_buffer (all partitions of one consumer) -> fetch_request (sessions, waits, encoding) -> broker_reads
(partitions that successive fetches read from one broker) -> divided_reads (busy and idle partitions of all brokers) ->
fetcher (fetches for all buffers at once) -> read_connection (a client and its fetcher, for any number of readers) ->
tail (reads new records only).
"""
