"""Which version of this project runs."""

from importlib import metadata


def version() -> str:
    """As in pyproject.toml, or `0+checkout` where it runs from a checkout that is not installed."""
    try:
        return metadata.version("infaas")
    except metadata.PackageNotFoundError:
        return "0+checkout"
