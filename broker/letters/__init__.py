"""Dead letters after they are written: they are listed, replayed or dropped.

Reading order: letter (a stored letter, and filters) -> dispositions (state of each letter) -> resending (destination
and headers of a replay) -> dead_letters (lists, replays, drops).
"""
