"""The installed version of this project."""

from importlib import metadata


def version(distribution: str = "infaas") -> str:
    """Return the version in pyproject.toml, or `0+checkout` in a checkout that is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "0+checkout"
