"""Location of model files, from the environment: a folder, or a bucket with a folder as its cache."""

from pathlib import Path
from typing import Final
from urllib.parse import unquote

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from registry.artifacts import ArtifactStore
from registry.s3 import SCHEME, S3Bucket
from schemas.errors import InvalidRequest

ENV: Final = "INFAAS_ARTIFACTS"
_CACHE_BYTES: Final = 20 << 30
_EXCHANGE: Final = "builds"
_UPLOADS: Final = "uploads"
_INCOMING: Final = "incoming"


class ArtifactSettings(BaseSettings):
    """Settings of the artifact store beside its location; read from `INFAAS_ARTIFACTS_*`."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_ARTIFACTS_", frozen=True, extra="ignore")

    endpoint: str = ""
    """Address of an S3-compatible store, e.g. `http://minio:9000`; empty: AWS."""
    cache_bytes: int = Field(default=_CACHE_BYTES, ge=0)
    """Size limit in bytes of a bucket's local cache; files in use may exceed it."""


def open_artifacts(location: str, home: Path) -> ArtifactStore:
    """Open the store at `location`: a folder, `s3://bucket/prefix`, or `<home>/artifacts` if empty.

    Raises:
        OperatorError: the URL is wrong, or the package for S3 is not installed.
    """
    return _open(location, home, home / "artifact-cache")


def open_exchange(location: str, home: Path) -> ArtifactStore:
    """Open the exchange, beside the store at `location`: temporary files that remote steps read and write.

    Raises:
        OperatorError: as `open_artifacts` does.
    """
    return _open(_beside(location, home, _EXCHANGE), home, home / "artifact-exchange")


def open_uploads(location: str, home: Path) -> ArtifactStore:
    """Open the store of uploads, beside the store at `location`, in which files wait to be registered.

    Raises:
        OperatorError: as `open_artifacts` does.
    """
    return _open(_beside(location, home, _UPLOADS), home, home / "artifact-uploads")


def name_in_store(url: str, location: str, home: Path, tenant: str | None) -> str:
    """Return the name in the store at `location` of a file that a user put there, from its URL.

    Users of a `tenant` put files into a folder of that tenant; administrators, with None, anywhere.

    Raises:
        InvalidRequest: the URL is not of this store, or names a file that this user may not have put there.
    """
    local = not location.startswith(SCHEME)
    root = _folder(location, home).absolute().as_uri() if local else location.rstrip("/")
    shown, mine = url[:200], f"{root}/{_INCOMING}/{tenant or '...'}/"
    if not url.startswith(f"{root}/"):
        raise InvalidRequest(f"{shown} is not in this system's artifact store: put it there, or upload it")
    name = url.removeprefix(f"{root}/")
    parts = (unquote(name) if local else name).split("/")
    if any(not part or part.startswith(".") or not part.isprintable() for part in parts):
        raise InvalidRequest(f"{shown} is not a valid file name in the artifact store")
    if len(parts) == 1 or parts[0] in (_EXCHANGE, _UPLOADS) or (tenant is not None and not url.startswith(mine)):
        raise InvalidRequest(f"{shown} may not be registered: put the file under {mine}, or upload it")
    return "/".join(parts)


def _beside(location: str, home: Path, name: str) -> str:
    if location.startswith(SCHEME):
        return f"{location.rstrip('/')}/{name}"
    return str(_folder(location, home) / name)


def _folder(location: str, home: Path) -> Path:
    return Path(location) if location else home / "artifacts"


def _open(location: str, home: Path, cache: Path) -> ArtifactStore:
    if not location.startswith(SCHEME):
        return ArtifactStore(Path(location) if location else home / "artifacts")
    settings = ArtifactSettings()
    return ArtifactStore(cache, S3Bucket(location, settings.endpoint), settings.cache_bytes)
