"""What becomes of dead letters: they are looked at, sent again, or dropped.

Reading order: letter (one as it is stored, and which are meant; pure) -> marks (what became of each) -> resending
(where one goes, and whether it may; pure) -> letter_box (reads, sends again, drops).
"""
