"""Signing of queries with keys that are derived from one secret (`INFAAS_SIGNING_*`).

A process with the secret can sign for every tenant: selectors, and the gateways and jobs services that act for tenants.
"""

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from process.security.signature import LARGE_BYTES, sign, system_key
from schemas import headers as h
from schemas.errors import OperatorError

_PREFIX: Final = "INFAAS_SIGNING_"
_LEAST_BYTES: Final = 32


class SigningSettings(BaseSettings):
    """Location of the secret; the file takes precedence."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore")

    secret: SecretStr | None = None
    secret_file: Path | None = None

    def read(self) -> bytes | None:
        """Return the secret; None if none is configured, so that nothing is signed.

        Raises:
            OperatorError: the file cannot be read, or the secret is short enough to be guessed.
        """
        try:
            found = self.secret_file.read_bytes().strip() if self.secret_file is not None else self._given()
        except OSError as error:
            raise OperatorError(f"cannot read {_PREFIX}SECRET_FILE: {error}") from None
        if found is not None and len(found) < _LEAST_BYTES:
            raise OperatorError(
                f"the secret of {_PREFIX}SECRET or {_PREFIX}SECRET_FILE has {len(found)} bytes; it needs "
                f"{_LEAST_BYTES}, e.g. from `openssl rand -hex 32`"
            )
        return found

    def _given(self) -> bytes | None:
        return self.secret.get_secret_value().encode() if self.secret is not None else None


async def sign_headers(
    secret: bytes,
    task: str,
    headers: h.RawHeaders,
    value: bytes | None,
    at_ms: float,
    added: h.RawHeaders | None = None,
) -> tuple[str, bytes]:
    """Return the header that proves the tenant in the other headers of a query on behalf of the system.

    The signature also covers `added`, the headers that are appended later. A large value is hashed in a thread.
    """
    fields = h.as_text([*headers, *(added or ())])
    signed = partial(sign, system_key(secret), task, fields, value, int(at_ms))
    text = await asyncio.to_thread(signed) if len(value or b"") > LARGE_BYTES else signed()
    return h.SIGNATURE, text.encode()
