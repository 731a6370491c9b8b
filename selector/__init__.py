"""Chooses the instance that answers a query.

Reading order: settings -> cost, offers (what is registered) -> live (what runs) -> candidates (the cached, static half
of a decision) -> world (the snapshot of both) -> policy (the live half: pure) -> shedding (who is refused under
overload) -> explain -> forward (headers) -> dispatch -> load, metrics (what is counted) -> service (loops) -> __main__.
"""
