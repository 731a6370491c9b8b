"""A tenant that does everything wrong beside one that asks within its needs.

Reading order: tenant (signs and sends) -> harms (each wrong in a task) -> good_tenant (asks, and counts) -> __main__.
"""
