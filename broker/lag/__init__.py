"""Lag of consumer groups, in records and in seconds.

Reading order: reader (one reading, top to bottom) -> offsets_api (requests for many partitions and groups) -> committed
(committed offsets of groups) -> offset_history (times of records, from past readings) -> timestamps (times of records,
from the log).
"""
