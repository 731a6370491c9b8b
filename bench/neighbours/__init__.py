"""Tenant isolation: a tenant that does everything wrong beside a tenant that behaves well.

Reading order: tenant (signs, sends, and counts the answers) -> harms (one coroutine per kind of harm) -> __main__.
"""
