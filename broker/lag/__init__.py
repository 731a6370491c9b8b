"""Lag of consumer groups, in records and in seconds.

Reading order: reader (one reading, top to bottom) -> committed (committed offsets of groups) -> timestamps (times of
records, from past readings or from the log).
"""
