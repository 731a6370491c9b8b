"""Load generators with little CPU cost, so that the system is measured and not the client.

Reading order: http_load (compiles and runs the HTTP client, reads its report) -> http_message (requests as sent,
answers as kept) -> bare_refuser (a server for the wasted part of a load) -> kafka_load (the same load by Kafka). The
HTTP client itself is `load.cpp`, with `options.hpp` and `response.hpp`.
"""
