"""Waiting by polling, for conditions without an event; a timeout names the condition and the last value."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, overload

T = TypeVar("T")
PATIENCE_S: Final = 60.0
"""Timeout in seconds; only a failing test reaches it, so it is long enough for a busy machine."""
_PAUSE_S: Final = 0.02


@overload
async def until(condition: Callable[[], Awaitable[T]], timeout_s: float = PATIENCE_S) -> T: ...
@overload
async def until(condition: Callable[[], T], timeout_s: float = PATIENCE_S) -> T: ...
async def until(condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    """Wait until the condition is true; return its value.

    Raises:
        AssertionError: timeout. Exceptions of the condition pass through.
    """
    return await _look(condition, bool, timeout_s, _words(condition))


async def read_until(read: Callable[[], Awaitable[T]], holds: Callable[[T], bool], timeout_s: float = PATIENCE_S) -> T:
    """Read repeatedly until `holds` accepts the value; return the value."""
    return await _look(read, holds, timeout_s, _words(holds))


async def _look(read: Callable[[], Any], holds: Callable[[Any], bool], timeout_s: float, words: str) -> Any:
    seen: Any = None
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            while not holds(seen := await _result(read())):  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise AssertionError(f"not within {timeout_s:g} s: {words}; last seen: {seen!r}") from error
    return seen


async def _result(found: Any) -> Any:
    return await found if inspect.isawaitable(found) else found


def _words(condition: Callable[..., object]) -> str:
    """Return the name of a function, or the source line of a lambda."""
    name = getattr(condition, "__name__", repr(condition))
    if name != "<lambda>":
        return name.strip("_").replace("_", " ")
    return " ".join(inspect.getsource(condition).split())


async def until_closed(host: str, port: int) -> None:
    """Wait until no server listens on a port."""

    async def closed() -> bool:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except ConnectionError:  # refused, or reset if the server ended with this connection in its backlog
            return True
        writer.close()
        return False

    await until(closed)
