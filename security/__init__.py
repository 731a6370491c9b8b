"""Authentication and authorization as pure functions, shared by the gateway, the selector and the command line.

Nothing here does I/O, reads a clock, runs a loop or draws random numbers: callers pass these values as arguments.

Reading order: api_keys, tokens (authentication) -> grants (limits of derived keys) -> quotas (rate and concurrency) ->
access (permission to use and to change) -> tenant_classes (tenants with equal permissions), catalog_view (filtering and
redaction of the catalog) -> signature (signed queries over Kafka), rejected_upstream (proof of a gateway's counts).
"""
