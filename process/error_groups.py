"""What is inside a group of exceptions, which may hold groups."""

from typing import TypeVar

_Error = TypeVar("_Error", bound=Exception)


def leaves(group: BaseExceptionGroup[_Error]) -> list[_Error]:
    """Return the errors inside a group of groups."""
    found: list[_Error] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
