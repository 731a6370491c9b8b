"""Settings of the store: the connection to Postgres, and its DSN without and with the password."""

from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import OperatorError

ENV: Final = "INFAAS_POSTGRES"
"""Environment variable with the DSN."""
_SECRETS: Final = frozenset({"password", "sslpassword"})
_FORM: Final = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"


class StoreSettings(BaseSettings):
    """Connection to Postgres, read from the environment."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_", frozen=True, extra="ignore", populate_by_name=True)

    postgres: SecretStr = Field(default=SecretStr("postgresql://postgres@127.0.0.1:5432/infaas"), validation_alias=ENV)
    """DSN of a Postgres 14 or newer; libpq's parameters (`sslmode=...`) are supported. It may contain a password."""

    @property
    def dsn(self) -> str:
        """DSN with its password, for connections only; never log it."""
        return self.postgres.get_secret_value()


def without_password(dsn: str) -> str:
    """Return the DSN without passwords, for display."""
    if not has_password(dsn):
        return dsn
    parts = urlsplit(dsn)
    account, at, place = parts.netloc.rpartition("@")
    shown = parse_qsl(parts.query, keep_blank_values=True)
    query = urlencode([(name, text) for name, text in shown if name.lower() not in _SECRETS], safe="/:,")
    return urlunsplit(parts._replace(netloc=f"{account.partition(':')[0]}{at}{place}", query=query))


def has_password(dsn: str) -> bool:
    """Return true if the DSN contains a password."""
    parts = urlsplit(dsn)
    return ":" in parts.netloc.rpartition("@")[0] or any(n.lower() in _SECRETS for n, _ in parse_qsl(parts.query))


def checked_dsn(dsn: str) -> str:
    """Return the DSN if the driver can parse it and would use its password file.

    The driver's own errors could quote a part of the password, and it ignores a password file that others can read.

    Raises:
        OperatorError: the DSN or the permissions of its password file are wrong.
    """
    _check_passfile(dict(parse_qsl(urlsplit(dsn).query)).get("passfile"))
    for place in urlsplit(dsn).netloc.rpartition("@")[2].split(","):
        _, colon, port = place.rpartition("]")[2].partition(":")
        if colon and not port.isdecimal():
            raise OperatorError(
                f"INFAAS_POSTGRES is not a DSN: write {_FORM}, with special characters of the password encoded, e.g. / "
                "as %2F"
            )
    return dsn


def _check_passfile(name: str | None) -> None:
    if name is None:
        return
    if not Path(name).is_file():
        raise OperatorError(f"passfile={name} in INFAAS_POSTGRES is not a file")
    if Path(name).stat().st_mode & 0o077:
        raise OperatorError(
            f"passfile={name} in INFAAS_POSTGRES may be read by others, so it is not used: chmod 600 it"
        )
