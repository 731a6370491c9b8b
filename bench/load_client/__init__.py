"""The client of the bench: a compiled load on one HTTP server, and the Python that compiles and runs it.

Reading order: http_load (compiles it, runs it, reads what it says) -> http_message (requests as it sends them, answers
as it keeps them). The load itself is `load.cpp`, with `options.hpp` and `response.hpp`.
"""
