"""Authentication and authorization as pure functions, shared by the gateway, the selector and the command line.

Nothing here does I/O, reads a clock, runs a loop or draws random numbers: callers pass these values as arguments. It
imports no other module of `process`.

Reading order: api_keys (authentication; limits of derived keys) -> access (permission to use and to change; tenants
with equal permissions), catalog_view (filtering and redaction of the catalog) -> signature (signed queries over Kafka;
proof of a gateway's counts).
"""
