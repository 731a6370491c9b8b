"""The client of the bench: a compiled load on one HTTP server, and the Python that compiles and runs it.

Reading order: load.cpp (the loop; beside it options.hpp and response.hpp) -> http_load (compiles it, runs it, reads
what it says) -> http_message (requests as it sends them, answers as it keeps them).
"""
