"""`make bench`: overhead of the system over the simplest program that does the same work, measured side by side.

One file per comparison. Each has `measure(...)`, which runs our part and its baseline alternately and returns
`Figure`s. `python -m bench` runs them, and writes `bench/results.json` and the tables made from it.

Reading order: core (figures, programs, a system under test, the baseline) -> load (the load generators) -> markdown (of
pages) -> results (storage of the figures) -> batch (jobs over files) -> latency -> throughput -> overload -> idle (cost
of a system without queries) -> generation (language models) -> cascade -> rollout (a canary version, and its rollback)
-> __main__ -> chat_goodput (`make bench-chats`) -> scale (`make bench-scale`) -> peers (`make bench-peers`) -> plots
(of scale and peers) -> variants (`make bench-variants`) -> profiles (`make bench-profiles`) -> zoo (`make bench-zoo`)
-> neighbours (`make neighbours`) -> simulations (what the simulated ones share) -> systems (`make bench-systems`,
simulated) -> selectors (`make bench-selectors`, simulated) -> search (`make bench-search`, simulated) -> ablation
(`make bench-ablation`, simulated) -> calibration (`make bench-calibration`, real beside simulated) -> page_plots (of
the pages of the simulated ones, `make bench-plots`). Faults and fuzzing are in `tests`.
"""
