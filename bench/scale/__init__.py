"""Measures how the system scales; `make bench-scale`."""
