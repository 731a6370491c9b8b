"""An event loop in a thread of its own, which keeps a context open and runs calls on it, for programs without a loop.

Rules.
* The thread first opens the context; an error is raised in the constructor. It closes the context last.
* Every accepted call ends: with its result, or cancelled if the thread is stopped. After that no call is accepted.
* The thread is a daemon and does not keep a program alive. At exit it has a few seconds to close the context.
* The thread belongs to one process. A forked process does not have it and does not touch its connections.
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
"""Maximum time that program exit waits for open contexts, in seconds."""
_Held = TypeVar("_Held")
_Result = TypeVar("_Result")


class LoopThread(Generic[_Held]):
    """Running thread with an event loop that keeps a context open. Thread-safe, except from its own thread.

    Args:
        make: creates the context, on the loop.

    Raises:
        Exception: the error of opening the context.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[_Held]], name: str) -> None:
        self._make = make
        self._process: Final = os.getpid()
        self._lock: Final = threading.RLock()  # reentrant: the garbage collector may call `stop` at any moment
        self._stopped = False
        """True once no more calls are accepted."""
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
            self._stopped = True  # the context may still be opening; the thread closes it without a waiter
            raise

    def submit(self, call: Callable[[_Held], Coroutine[Any, Any, _Result]]) -> Future[_Result]:
        """Run a call on the loop; returns a future of its result. The future may be cancelled.

        Raises:
            RuntimeError: the thread was stopped.
        """
        with self._lock:
            if self._stopped or self._loop is None:
                raise RuntimeError("the client is closed")
            return asyncio.run_coroutine_threadsafe(self._counted(call), self._loop)

    def stop(self, wait_s: float | None) -> None:
        """Cancel all calls, close the context and end the thread.

        Waits for the end at most `wait_s` seconds; None: without limit.
        """
        if self._process != os.getpid():
            return
        with self._lock:
            if not self._stopped and self._loop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
            self._stopped = True
        if threading.current_thread() is not self._thread:  # the garbage collector may call `stop` in this thread
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
        except BaseException as error:  # noqa: BLE001 - raised in the constructor, else logged
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
        """Accept no more calls and cancel the open ones: a call accepted later would never end."""
        with self._lock:
            self._stopped = True
        for call in self._calls:
            call.cancel()


_running: Final = set[LoopThread[Any]]()
_of_parents: Final[list[LoopThread[Any]]] = []
"""Threads of the parent process after a fork, kept so that collected loops do not close the parent's connections."""


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
