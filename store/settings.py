"""Settings of the store: the connection to Postgres."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class StoreSettings(BaseSettings):
    """Connection to Postgres, read from the environment."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_", frozen=True, extra="ignore", populate_by_name=True)

    postgres: SecretStr = Field(
        default=SecretStr("postgresql://postgres@127.0.0.1:5432/infaas"), validation_alias="INFAAS_POSTGRES"
    )
    """DSN of a Postgres 14 or newer; libpq's parameters (`sslmode=...`) are supported. It may contain a password."""

    @property
    def dsn(self) -> str:
        """DSN with its password, for connections only; never log it."""
        return self.postgres.get_secret_value()
