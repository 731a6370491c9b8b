"""Chooses the instance that answers a query.

Reading order: offers (what is registered) -> live (what runs) -> candidates (the cached, static half of a decision)
-> world (the snapshot of both) -> policy (the live half: pure) -> explain -> forward (headers) -> service (loops).
"""
