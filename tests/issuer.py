"""Token issuer for tests: its keys, valid tokens, and forged tokens."""

import base64
import hmac
import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "infaas"
NOW = 1_800_000_000.0


class SigningKey:
    """Private key of an issuer."""

    def __init__(self, kid: str, algorithm: str = "RS256") -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private: Any = (
            rsa.generate_private_key(65537, 2048)
            if algorithm.startswith("RS")
            else ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}[algorithm])
        )

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key as a JWK."""
        kind = RSAAlgorithm if self.algorithm.startswith("RS") else ECAlgorithm
        return {**kind.to_jwk(self.private.public_key(), as_dict=True), "kid": self.kid, "use": "sig"}

    @property
    def pem(self) -> bytes:
        """The public key in PEM format."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, claims: dict[str, Any], kid: str | None = None) -> str:
        """Return a signed token with these claims; `kid` replaces the key's own id."""
        return jwt.encode(claims, self.private, self.algorithm, headers={"kid": self.kid if kid is None else kid})


def key_set(*keys: SigningKey) -> dict[str, Any]:
    """Return the JWK set that an issuer publishes."""
    return {"keys": [key.jwk for key in keys]}


def claims_of(issuer: str, now: float = NOW, **changed: Any) -> dict[str, Any]:
    """Return claims of a valid token with some changed; claims that are None are omitted."""
    claims = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": "ada",
        "exp": int(now) + 300,
        "tenant": "acme",
        "roles": ["query", "something-else"],
    }
    return {name: value for name, value in (claims | changed).items() if value is not None}


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """Return a token with any header and signature; libraries refuse to create such tokens."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def signed_by_public_key(key: SigningKey, claims: dict[str, Any]) -> str:
    """Return a token signed by HMAC with the public key as the secret (algorithm confusion)."""
    unsigned = forged({"alg": "HS256", "typ": "JWT", "kid": key.kid}, claims).rpartition(".")[0]
    signature = hmac.digest(key.pem, unsigned.encode(), "sha256")
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
