"""What starts and stops workers: one file for each kind of place where they can run.

Reading order: protocol (what a launcher is) -> catalog (which there are) -> the launchers.
"""
