"""How far consumer groups are behind, in records and in seconds.

Reading order: reader (one reading, top to bottom) -> offsets_api (many partitions and groups in one request) ->
committed (what groups have committed) -> offset_history (when a record was written, from past readings) -> timestamps
(the same from the log).
"""
