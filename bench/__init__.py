"""`make bench`: overhead of the system over the simplest program that does the same work, measured side by side.

One file per comparison. Each has `measure(...)`, which runs our part and its baseline alternately and returns
`Figure`s. `python -m bench` runs them on both brokers, and writes `bench/results.json` and the tables made from it.

Reading order: core (figures, load, a system under test, the baseline) -> load_client (a compiled HTTP load generator)
-> results (storage of the figures) -> batch (jobs over files) -> latency -> throughput -> overload -> idle (cost of a
system without queries) -> cascade -> rollout (a canary version, and its rollback) -> __main__ -> scale (`make
bench-scale`) -> peers (`make bench-peers`) -> variants (`make bench-variants`) -> profiles (`make bench-profiles`) ->
zoo (`make bench-zoo`) -> chaos (`make chaos`) -> jobs (`make chaos-jobs`) -> fuzz (`make fuzz`) -> neighbours (`make
neighbours`).
"""
