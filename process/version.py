"""The version of this project that runs."""

from importlib import metadata


def version(distribution: str = "infaas") -> str:
    """Version as in pyproject.toml, or `0+checkout` where it runs from a checkout that is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "0+checkout"
