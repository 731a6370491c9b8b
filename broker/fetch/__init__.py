"""Reads partitions from given offsets: no group, no commits, no threads.

Reading order: decompression (with a size limit) -> record_batches (bytes to records, also of damaged batches) -> losses
(counts records that can never be read) -> offset_search (offsets of starts, ends and times) -> fetched_partition
(fetched data of one partition) -> fetch_buffer (all partitions of one consumer) -> fetch_session (incremental requests)
-> fetch_api (encoding of requests and answers) -> fetcher (fetches for all buffers at once) -> read_connection (a
client and its fetcher, for any number of readers).
"""
