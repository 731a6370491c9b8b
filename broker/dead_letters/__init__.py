"""Dead letters: records that could not be processed. They are written, listed, replayed or dropped.

Reading order: letter (format, and bytes by topic) -> stored_letter (a stored letter, its state, and filters) ->
resending (destination and headers of a replay) -> dead_letters (lists, replays, drops).
"""
