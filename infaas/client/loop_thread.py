"""An event loop in a thread of its own, for programs that have none: holds something open there, and runs calls on it.

Rules.
* Opening is the thread's first act, and what it raises comes out where the thread was made. Closing is its last.
* A call that was taken ends: with its result, or, if the thread is stopped before, cancelled. None is taken afterwards.
* The thread is a daemon: it holds up no program that ends. What is open then is closed, if that takes but seconds.
* It lives in one process. In one that was forked off it is not there, and what it has open is left alone.
"""

import asyncio
import atexit
import logging
import os
import threading
import time
from asyncio import AbstractEventLoop, Task
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Generic, TypeVar

log = logging.getLogger(__name__)

_EXIT_S: Final = 5.0
"""Seconds that a program which ends waits for what is still open."""
_Held = TypeVar("_Held")
_Result = TypeVar("_Result")


class LoopThread(Generic[_Held]):
    """A running thread with an event loop that holds a context open; safe to use from any thread but its own.

    Args:
        make: makes the context, on the loop.

    Raises:
        Exception: what opening the context raises.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[_Held]], name: str) -> None:
        self._make = make
        self._process: Final = os.getpid()
        self._lock: Final = threading.RLock()  # garbage may be collected, and stop this, at any moment
        self._stopped = False
        """Whether no call is taken any more."""
        self._loop: AbstractEventLoop | None = None
        self._stop: asyncio.Event
        self._calls: set[Task[Any]] = set()
        self._opened: Future[_Held] = Future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        _running.add(self)
        self._thread.start()
        try:
            self._held = self._opened.result()
        except BaseException:
            self._stopped = True  # it may be opening still: it closes again, and nobody waits for that
            raise

    def submit(self, call: Callable[[_Held], Coroutine[Any, Any, _Result]]) -> Future[_Result]:
        """Run a call on the loop; its result is that of the future, which may be cancelled.

        Raises:
            RuntimeError: the thread was stopped.
        """
        with self._lock:
            if self._stopped or self._loop is None:
                raise RuntimeError("the client is closed")
            return asyncio.run_coroutine_threadsafe(self._counted(call), self._loop)

    def stop(self, wait_s: float | None) -> None:
        """Cancel all calls, close the context and end the thread; wait so long for that, None: as long as it takes."""
        if self._process != os.getpid():
            return
        with self._lock:
            if not self._stopped and self._loop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
            self._stopped = True
        if threading.current_thread() is not self._thread:  # where garbage may be collected, too
            self._thread.join(wait_s)

    async def _counted(self, call: Callable[[_Held], Coroutine[Any, Any, _Result]]) -> _Result:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await call(self._held)
        finally:
            self._calls.discard(task)

    def _run(self) -> None:
        try:
            asyncio.run(self._hold())
        except BaseException as error:  # noqa: BLE001 - raised where the thread was made, or nobody is left to be told
            if not self._opened.done():
                self._opened.set_exception(error)
            else:
                log.warning("the client ended with an error: %r", error)
        finally:
            _running.discard(self)

    async def _hold(self) -> None:
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        try:
            async with self._make() as held:
                self._opened.set_result(held)
                try:
                    if not self._stopped:
                        await self._stop.wait()
                finally:
                    self._end_calls()
        finally:
            self._end_calls()

    def _end_calls(self) -> None:
        """Take no more calls, whatever ends this, since who is taken from here on would wait for ever."""
        with self._lock:
            self._stopped = True
        for call in self._calls:
            call.cancel()


_running: Final = set[LoopThread[Any]]()
_of_parents: Final[list[LoopThread[Any]]] = []
"""Threads of the process that this one was forked off, kept: collected, a loop would close what it shares with that."""


def _stop_all() -> None:
    ends_s = time.monotonic() + _EXIT_S
    for thread in list(_running):
        thread.stop(0)
    for thread in list(_running):
        thread.stop(max(ends_s - time.monotonic(), 0))


def _forget_all() -> None:
    _of_parents.extend(_running)
    _running.clear()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_all)
