"""`make bench`: what the system costs over the least that could do the same work, measured side by side.

One file a comparison; each has `measure(...)`, which runs our part and its baseline alternately and returns `Figure`s.
`python -m bench` runs them on both brokers, writes `bench/results.json` and the tables made from it.

Reading order: core (figures, load, a system under test, the baseline) -> load_client (a compiled load by HTTP) ->
results (where figures are kept) -> batch (jobs over files) ->
latency -> throughput -> overload -> idle (what a system costs that nobody asks
anything) -> cascade -> rollout (a version tried, and taken back) -> __main__ -> scale (`make bench-scale`) -> peers
(`make bench-peers`) -> variants (`make bench-variants`) -> profiles (`make bench-profiles`) -> zoo (`make bench-zoo`)
-> chaos (`make chaos`) -> jobs (`make chaos-jobs`) -> fuzz (`make fuzz`) ->
neighbours (`make neighbours`).
"""
