"""`make bench`: what the system costs over the least that could do the same work, measured side by side.

One file a question; each has `measure(...)`, which runs our part and its baseline alternately and returns `Figure`s.
`python -m bench` runs them on both brokers, writes `bench/results.json` and the table in the README.

Reading order: figures -> system, queries, load, http_load (what is measured, by what) -> bare, gateway_floor (the
floors) -> overhead, selector_throughput, worker_throughput, gateway_throughput -> answers, crash -> __main__ -> scale.
"""
