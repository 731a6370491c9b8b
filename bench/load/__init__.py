"""Load generators: one for Kafka clients, one for HTTP and gRPC. Both cost little CPU where the system is measured.

Reading order: pace (the clock of an open loop, and the query of most loads) -> http_message (requests as sent, answers
as kept) -> http_load (the compiled client, and the clients in Python) -> kafka_load (aiokafka and librdkafka) ->
bare_refuser (a server for the wasted part of a load). The compiled client is `load.cpp`, with `options.hpp` and
`response.hpp`.
"""
