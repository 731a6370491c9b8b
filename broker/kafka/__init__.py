"""Clients of Kafka, and administration of its topics and users.

Reading order: settings (address, security, limits; reply streams) -> sasl_connections (sessions that expire) -> client
(creates every aiokafka object) -> types (records and errors for other packages) -> cluster (health and features of the
brokers) -> clocks (time of the brokers) -> encoded_request (requests encoded by this package) -> offsets (offsets of
partitions and groups) -> topic_lifecycle (creates topics, waits for them) -> admin (requests that aiokafka lacks) ->
topics (ensures the topics of services) -> access (ACLs and passwords) -> servers (brokers on this machine).
"""
