"""`make bench`: what the system costs over the least that could do the same work, measured side by side.

One file a question; each has `measure(...)`, which runs our part and its baseline alternately and returns `Figure`s.
`python -m bench` runs them on both brokers, writes `bench/results.json` and the table in the README.
"""
