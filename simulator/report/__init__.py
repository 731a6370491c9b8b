"""Reports of runs: the folder that `infaas simulate --output` writes, and its parts.

Reading order: `time_series` (columns over time), `panels` (the plots as data), `drawing` (matplotlib), `regret_table`,
`page` (HTML), `query_file` (Parquet), `folder`.
"""
