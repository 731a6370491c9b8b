"""The command line: one file per group of commands.

Reading order: main (composes them) -> connect (where the system is), output (how commands speak) -> system, demo ->
register, listing -> query -> scale, lag -> dead_letters, database.
"""
