"""The clients of the bench that cost little, so that what is measured is the system.

Reading order: http_load (compiles the HTTP client, runs it, reads what it says) -> http_message (requests as it sends
them, answers as it keeps them) -> bare_refuser (a server for what is not asked of the system) -> kafka_load (the same
load by Kafka). The HTTP client itself is `load.cpp`, with `options.hpp` and `response.hpp`.
"""
