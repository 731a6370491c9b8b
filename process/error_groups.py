"""Flattening of exception groups, which may be nested."""

from typing import TypeVar

_Error = TypeVar("_Error", bound=Exception)


def leaves(group: BaseExceptionGroup[_Error]) -> list[_Error]:
    """Return all exceptions of a group that are not groups themselves."""
    found: list[_Error] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
