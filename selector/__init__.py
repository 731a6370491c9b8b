"""Selector service: chooses the instance that answers a query.

Reading order: policy (pure: cluster state and choice) -> admission (access, shares of tenants, load shedding) ->
settings -> dispatch (records in, records out) -> service (loops) -> __main__.
"""
