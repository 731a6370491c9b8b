"""Admission of queries: access of their senders, shares of tenants, and load shedding.

Reading order: signatures (proof of a tenant) -> received_query (parsing of records, error results) -> tenant_shares
(accounts and turns of tenants) -> overload (load shedding, cache of refusals).
"""
