"""How many queries a second each part takes, beside a bare program.

Reading order: selector -> worker -> http_load (the load on a gateway) -> gateway_baseline (the bare program beside it)
-> gateway.
"""
