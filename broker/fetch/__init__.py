"""Reads what partitions hold, from where it is told to: no group, no commits, no threads.

Reading order: decompression (within bounds) -> record_batches (bytes become records, whatever bytes they are) -> losses
(what can never be read is counted) -> offset_search (where partitions begin and end) -> fetched_partition (what of one
is here) -> fetch_buffer (what of all that a consumer reads) -> fetch_session (what a broker knows already) -> fetch_api
(requests and answers in bytes) -> fetcher (asks the brokers, in turn and ahead, for all buffers at once) ->
read_connection (a client and its fetcher, for any number of readers).
"""
