"""API keys as text and as what is kept of them: pure, the random bytes come in.

    infaas_<id>_<secret>

The id is no secret: it finds the row, and names the key in listings, logs and audits. The secret has 256 bits of a
random generator, so nobody can try it out, and one round of SHA-256 keeps it as safe as a slow hash keeps a password;
it is computed for each request. The prefix is for scanners that look for secrets in code.
"""

import re
from base64 import urlsafe_b64encode
from hashlib import sha256
from hmac import compare_digest
from typing import Final, NamedTuple

PREFIX: Final = "infaas_"
ID_BYTES: Final = 6
SECRET_BYTES: Final = 32
_ID: Final = slice(len(PREFIX), len(PREFIX) + 2 * ID_BYTES)
_SECRET: Final = slice(_ID.stop + 1, None)
_FORM: Final = re.compile(r"infaas_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)


class ApiKey(NamedTuple):
    """A key in clear: for whoever made it, once, and whoever shows it."""

    id: str
    secret: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.id}_{self.secret}"

    def __repr__(self) -> str:
        return f"{PREFIX}{self.id}_..."  # so that no log of a value tells it

    def hash(self) -> bytes:
        """What is kept of the secret."""
        return sha256(self.secret.encode()).digest()


def make_key(random: bytes) -> ApiKey:
    """Make a key of `ID_BYTES + SECRET_BYTES` random bytes."""
    if len(random) != ID_BYTES + SECRET_BYTES:
        raise ValueError(f"a key is made of {ID_BYTES + SECRET_BYTES} bytes, not {len(random)}")
    return ApiKey(random[:ID_BYTES].hex(), urlsafe_b64encode(random[ID_BYTES:]).rstrip(b"=").decode())


def id_in(text: str) -> str:
    """The id in a text that may be a key."""
    return text[_ID]


def is_key(text: str, key_id: str, kept: bytes) -> bool:
    """Whether a text is the key of this id of which that is kept; takes as long whatever of the secret differs."""
    digest = sha256(text[_SECRET].encode("utf-8", "surrogatepass")).digest()
    return compare_digest(digest, kept) and text.startswith(f"{PREFIX}{key_id}_")


def read_key(text: str) -> ApiKey | None:
    """The key that a text is; None where it has not the form of one."""
    found = _FORM.fullmatch(text)
    return None if found is None else ApiKey(found[1], found[2])
