"""Authentication of callers of a gateway.

Reading order: tokens (verification, pure) -> issuer_documents (reads over HTTP) -> issuer_keys (public keys
of the token issuer) -> authenticator (keys, certificates and tokens of requests; tenants and roles).
"""
