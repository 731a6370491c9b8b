"""Tenant isolation: a tenant that does everything wrong beside a tenant that behaves well.

Reading order: tenant (signs and sends) -> harms (one coroutine per kind of harm) -> good_tenant (queries and counts) ->
__main__.
"""
