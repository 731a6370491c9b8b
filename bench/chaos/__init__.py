"""`make chaos`: faults under load, on a whole system of real processes. Counts lost and repeated results.

Reading order: closed_ids (compact set of answered ids) -> ledger (queries and their outcomes) -> traffic (three kinds
of clients) -> poison (harmful records and queries) -> vanishing_client -> kafka_cluster (three nodes of Kafka) -> site
(processes of the system) -> room (disk and memory of a campaign), resources (files, tables, topics) -> shifted_clock
(processes with a wrong clock) -> faults (table of the faults) -> campaign (a sequence of faults and checks) -> report
(a table, also as HTML) -> __main__.
"""
