"""This machine: its ports, and the processes that we start on it.

The lowest package with I/O: embedded brokers, the embedded Postgres and the supervisor of the services start processes
alike, and none of them may import another.

Reading order: ports -> process -> keeper (who keeps processes running, and who says which) -> memory, priority (what
a process gives up for others).
"""
