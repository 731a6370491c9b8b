"""`make chaos`: faults under load, on a whole system of real processes. What is lost, shown twice, held, for how long?

Reading order: closed_ids (what was answered, in little room) -> ledger (what was asked, and what came of it) -> traffic
(three kinds of clients) -> poison (records and queries that are meant to hurt) -> vanishing_client -> kafka_cluster
(three nodes of Kafka) -> site (the processes of the system) -> room (the disk and memory that all takes) -> faults (the
table of what is done to it) -> campaign (one fault after another, and what is checked) -> report (a table, also as
HTML) -> __main__.
"""
