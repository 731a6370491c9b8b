"""An issuer of tokens: its keys, and what it and others who pretend to be it sign."""

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
    """A private key of an issuer."""

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
        """The public key as an issuer publishes it."""
        kind = RSAAlgorithm if self.algorithm.startswith("RS") else ECAlgorithm
        return {**kind.to_jwk(self.private.public_key(), as_dict=True), "kid": self.kid, "use": "sig"}

    @property
    def pem(self) -> bytes:
        """The public key as a file."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, claims: dict[str, Any], kid: str | None = None) -> str:
        """A token that says `claims`."""
        return jwt.encode(claims, self.private, self.algorithm, headers={"kid": self.kid if kid is None else kid})


def key_set(*keys: SigningKey) -> dict[str, Any]:
    """What an issuer publishes."""
    return {"keys": [key.jwk for key in keys]}


def claims_of(issuer: str, now: float = NOW, **changed: Any) -> dict[str, Any]:
    """Claims of a good token; those that are None are left out."""
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
    """A token that no library would sign."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def signed_by_public_key(key: SigningKey, claims: dict[str, Any]) -> str:
    """A token signed by HMAC whose secret is the public key, which everybody knows."""
    unsigned = forged({"alg": "HS256", "typ": "JWT", "kid": key.kid}, claims).rpartition(".")[0]
    signature = hmac.digest(key.pem, unsigned.encode(), "sha256")
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
