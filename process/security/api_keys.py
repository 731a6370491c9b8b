"""API keys: their text form, the hash that is stored, and the limits of derived keys. Pure: random bytes are arguments.

    infaas_<id>_<secret>

The id is public: it finds the row, and names the key in listings, logs and audit records. The secret holds 256 random
bits, so it cannot be guessed, and one round of SHA-256 protects it as well as a slow hash protects a password. A fast
hash matters because it is computed for each request. The prefix lets secret scanners find keys in code. A key that a
principal creates has no more rights than its creator.
"""

import re
from base64 import urlsafe_b64encode
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Final, NamedTuple

from schemas.access import Principal
from schemas.rows.tenants import ApiKeyRow

PREFIX: Final = "infaas_"
ID_BYTES: Final = 6
SECRET_BYTES: Final = 32
_ID: Final = slice(len(PREFIX), len(PREFIX) + 2 * ID_BYTES)
_SECRET: Final = slice(_ID.stop + 1, None)
_FORM: Final = re.compile(r"infaas_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)


class ApiKey(NamedTuple):
    """An API key with its secret in plain text: shown once to its creator, and sent by its user."""

    id: str
    secret: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.id}_{self.secret}"

    def __repr__(self) -> str:
        return f"{PREFIX}{self.id}_..."  # keeps the secret out of logs

    def hash(self) -> bytes:
        """Return the SHA-256 of the secret, which is stored instead of it."""
        return sha256(self.secret.encode()).digest()


def make_key(random: bytes) -> ApiKey:
    """Make a key of `ID_BYTES + SECRET_BYTES` random bytes."""
    if len(random) != ID_BYTES + SECRET_BYTES:
        raise ValueError(f"a key is made of {ID_BYTES + SECRET_BYTES} bytes, not {len(random)}")
    return ApiKey(random[:ID_BYTES].hex(), urlsafe_b64encode(random[ID_BYTES:]).rstrip(b"=").decode())


def id_in(text: str) -> str:
    """Return the characters of a text at the position of a key's id; the form is not checked."""
    return text[_ID]


def is_key(text: str, key_id: str, kept: bytes) -> bool:
    """Return true if a text is the key with this id and stored hash. The comparison takes constant time."""
    digest = sha256(text[_SECRET].encode("utf-8", "surrogatepass")).digest()
    return compare_digest(digest, kept) and text.startswith(f"{PREFIX}{key_id}_")


def read_key(text: str) -> ApiKey | None:
    """Parse a key; None if the text does not have the form of one."""
    found = _FORM.fullmatch(text)
    return None if found is None else ApiKey(found[1], found[2])


def what_exceeds(made: ApiKeyRow, maker: Principal, ends: datetime | None) -> str:
    """Return the first right of the new key that exceeds its creator's rights; empty if there is none.

    `ends` is the expiry of the creator's own key, None if it never expires.
    """
    if not all(maker.has(role) for role in made.roles):
        return "its role is higher"
    if maker.tasks is not None and (made.tasks is None or not maker.tasks.issuperset(made.tasks)):
        return "it may query other tasks"
    if ends is not None and (made.expires_at is None or made.expires_at > ends):
        return f"it would expire after {ends.isoformat(timespec='seconds')}"
    quota = maker.quota
    if quota is not None and (_more(made.per_second, quota.per_second) or _more(made.concurrent, quota.concurrent)):
        return "its quota is larger"
    return ""


def _more(limit: float | None, most: float | None) -> bool:
    return most is not None and (limit is None or limit > most)
