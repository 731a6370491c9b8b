"""This machine: its ports, and the processes that we start on it.

The lowest package with I/O: embedded brokers, the embedded Postgres and the supervisor of the services start processes
alike, and none of them may import another.
"""
