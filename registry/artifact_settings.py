"""Where model files are, from the environment: a folder, or a bucket and the folder that caches it."""

from pathlib import Path
from typing import Final

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from registry.artifacts import ArtifactStore
from registry.s3 import SCHEME, S3Bucket

ENV: Final = "INFAAS_ARTIFACTS"
_CACHE_BYTES: Final = 20 << 30
_EXCHANGE: Final = "builds"


class ArtifactSettings(BaseSettings):
    """Settings of where model files are, beside the place itself; read from `INFAAS_ARTIFACTS_*`."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_ARTIFACTS_", frozen=True, extra="ignore")

    endpoint: str = ""
    """Address of an S3-compatible store, e.g. `http://minio:9000`; AWS if empty."""
    cache_bytes: int = Field(default=_CACHE_BYTES, ge=0)
    """Bytes of a bucket's files that are kept on this machine, besides those in use."""


def open_artifacts(location: str, home: Path) -> ArtifactStore:
    """Open the store at `location`: a folder, `s3://bucket/prefix`, or `<home>/artifacts` if empty.

    Raises:
        OperatorError: the URL is wrong, or what speaks S3 is not installed.
    """
    return _open(location, home, home / "artifact-cache")


def open_exchange(location: str, home: Path) -> ArtifactStore:
    """Open, beside the store at `location`, where files are that steps elsewhere need or made, as long as builds are.

    Raises:
        OperatorError: as `open_artifacts` does.
    """
    if location.startswith(SCHEME):
        location = f"{location.rstrip('/')}/{_EXCHANGE}"
    else:
        location = str((Path(location) if location else home / "artifacts") / _EXCHANGE)
    return _open(location, home, home / "artifact-exchange")


def _open(location: str, home: Path, cache: Path) -> ArtifactStore:
    if not location.startswith(SCHEME):
        return ArtifactStore(Path(location) if location else home / "artifacts")
    settings = ArtifactSettings()
    return ArtifactStore(cache, S3Bucket(location, settings.endpoint), settings.cache_bytes)
