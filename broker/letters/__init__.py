"""Dead letters after they are written: they are listed, replayed or dropped.

Reading order: letter (a stored letter, and filters) -> marks (state of each letter) -> resending (destination and
headers of a replay) -> letter_box (lists, replays, drops).
"""
