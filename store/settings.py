"""Settings of the store: where Postgres is."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class StoreSettings(BaseSettings):
    """How to reach Postgres, read from the environment."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_", frozen=True, extra="ignore", populate_by_name=True)

    postgres: SecretStr = Field(
        default=SecretStr("postgresql://postgres@127.0.0.1:5432/infaas"), validation_alias="INFAAS_POSTGRES"
    )
    """DSN of a Postgres 14 or newer; libpq's parameters (`sslmode=...`) are understood. It may hold a password."""

    @property
    def dsn(self) -> str:
        """DSN in clear, to connect with; never log it."""
        return self.postgres.get_secret_value()
