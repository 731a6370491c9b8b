"""`make chaos`: faults under load, on a whole system of real processes. Counts lost and repeated results.

Reading order: ledger (queries and their outcomes) -> traffic (three kinds of clients) -> poison (harmful records and
queries) -> vanishing_client -> kafka_cluster (three nodes of Kafka) -> site (processes of the system) -> resources
(files, tables, topics, disk and memory) -> shifted_clock (processes with a wrong clock) -> faults (table of the faults)
-> campaign (a sequence of faults and checks) -> report (a table, also as HTML) -> __main__ -> jobs (`make chaos-jobs`:
every process is killed with 10,000 jobs in flight) -> batches (`make chaos-batches`: the same with a batch).
"""

import os

# Before gRPC is imported: its clients send queries from the campaign, and its handlers of `fork` have crashed processes
# that the campaign starts.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
