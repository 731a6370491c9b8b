"""The secret that all keys are made of by which queries are signed: `INFAAS_SIGNING_*`; and signing by it.

Whoever has it can sign for every tenant: selectors, and gateways and jobs services that speak for tenants.
"""

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas import headers as h
from schemas.errors import OperatorError
from security.signature import LARGE_BYTES, sign, system_key

_PREFIX: Final = "INFAAS_SIGNING_"
_LEAST_BYTES: Final = 32


class SigningSettings(BaseSettings):
    """Where the secret stands; the file, if both do."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore")

    secret: SecretStr | None = None
    secret_file: Path | None = None

    def read(self) -> bytes | None:
        """The secret; None: there is none, and nothing is signed.

        Raises:
            OperatorError: its file cannot be read, or it is so short that it could be guessed.
        """
        try:
            found = self.secret_file.read_bytes().strip() if self.secret_file is not None else self._given()
        except OSError as error:
            raise OperatorError(f"cannot read {_PREFIX}SECRET_FILE: {error}") from None
        if found is not None and len(found) < _LEAST_BYTES:
            raise OperatorError(
                f"the secret of {_PREFIX}SECRET or {_PREFIX}SECRET_FILE has {len(found)} bytes; it needs "
                f"{_LEAST_BYTES}, for instance of `openssl rand -hex 32`"
            )
        return found

    def _given(self) -> bytes | None:
        return self.secret.get_secret_value().encode() if self.secret is not None else None


async def vouch(
    secret: bytes,
    task: str,
    headers: h.RawHeaders,
    value: bytes | None,
    at_ms: float,
    added: h.RawHeaders | None = None,
) -> tuple[str, bytes]:
    """The header by which a part of the system says that a query is of the tenant that its other headers name.

    `added` are headers that are added later, and covered all the same. A large value is hashed beside the loop.
    """
    fields = h.as_text([*headers, *(added or ())])
    signed = partial(sign, system_key(secret), task, fields, value, int(at_ms))
    text = await asyncio.to_thread(signed) if len(value or b"") > LARGE_BYTES else signed()
    return h.SIGNATURE, text.encode()
