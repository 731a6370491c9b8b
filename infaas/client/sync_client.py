"""Client for programs without an event loop: the same calls as `InfaasClient`, but blocking.

    with SyncInfaasClient(kafka="127.0.0.1:9092") as client:             # or gateway="http://127.0.0.1:8080"
        answer = client.infer("sentiment-text", {"text": ["a wonderful film"]}, latency_ms=2000)

Rules of the client.
* Any number of threads may use one client. Their queries share its connections, which an event loop in a background
  thread serves. The client connects on first use or on entry.
* The calling thread encodes the inputs before the call returns, so the arrays may be changed afterwards.
* A forked process opens its own connections when it uses the client, and does not touch the parent's.
* An unclosed client is closed when the program exits or when the client is garbage collected.

Rules of the background thread.
* The thread first opens its client; an error is raised in the constructor. It closes the client last.
* Every accepted call ends: with its result, or cancelled if the thread is stopped. After that no call is accepted.
* The thread is a daemon and does not keep a program alive. At exit it has a few seconds to close the client.
* The thread belongs to one process. A forked process does not have it and does not touch its connections.
"""

import asyncio
import atexit
import concurrent.futures
import logging
import os
import threading
import time
import weakref
from asyncio import AbstractEventLoop, Task
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack

from numpy.typing import ArrayLike

from infaas.client.answer import Answer, TextPart
from infaas.client.client import InfaasClient, QueryOptions, SystemOptions, check_stream, check_system, encode
from infaas.client.generation import Prompt
from schemas.errors import Internal, QueryError

log = logging.getLogger(__name__)

_EXIT_S: Final = 5.0
"""Maximum time that program exit waits for open clients, in seconds."""
_Result = TypeVar("_Result")


class LoopThread:
    """Running thread with an event loop that keeps a client open. Thread-safe, except from its own thread.

    Raises:
        OperatorError: Kafka cannot be reached.
    """

    def __init__(self, system: SystemOptions) -> None:
        self._system = system
        self._process: Final = os.getpid()
        self._lock: Final = threading.RLock()  # reentrant: the garbage collector may call `stop` at any moment
        self._stopped = False
        """True once no more calls are accepted."""
        self._loop: AbstractEventLoop | None = None
        self._stop: asyncio.Event
        self._calls: set[Task[Any]] = set()
        self._opened: Future[InfaasClient] = Future()
        self._thread = threading.Thread(target=self._run, name="infaas-client", daemon=True)
        _running.add(self)
        self._thread.start()
        try:
            self._client = self._opened.result()
        except BaseException:
            self._stopped = True  # the client may still be opening; the thread closes it without a waiter
            raise

    def submit(self, call: Callable[[InfaasClient], Coroutine[Any, Any, _Result]]) -> Future[_Result]:
        """Run a call on the loop; returns a future of its result. The future may be cancelled.

        Raises:
            RuntimeError: the thread was stopped.
        """
        with self._lock:
            if self._stopped or self._loop is None:
                raise RuntimeError("the client is closed")
            return asyncio.run_coroutine_threadsafe(self._counted(call), self._loop)

    def stop(self, wait_s: float | None) -> None:
        """Cancel all calls, close the client and end the thread.

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

    async def _counted(self, call: Callable[[InfaasClient], Coroutine[Any, Any, _Result]]) -> _Result:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await call(self._client)
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
            async with InfaasClient(**self._system) as client:
                self._opened.set_result(client)
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


_running: Final = set[LoopThread]()
_of_parents: Final[list[LoopThread]] = []
"""Threads of the parent process after a fork, kept so that collected loops do not close the parent's connections."""


def _stop_all() -> None:
    ends_s = time.monotonic() + _EXIT_S
    for thread in list(_running):
        thread.stop(0)
    for thread in list(_running):
        thread.stop(max(ends_s - time.monotonic(), 0))


atexit.register(_stop_all)


class SyncInfaasClient:
    """Blocking client of one system; a context manager for any number of threads.

    Raises:
        OperatorError: in the constructor, not exactly one of `kafka` and `gateway` is given; on connecting, Kafka
            cannot be reached.
    """

    def __init__(self, **system: Unpack[SystemOptions]) -> None:
        check_system(system)
        self._system: SystemOptions = system
        self._lock = threading.Lock()
        self._closed = False
        self._thread: LoopThread | None = None
        _clients.add(self)

    def __enter__(self) -> Self:
        self._connected()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Calls waiting in other threads raise `Internal`; later calls raise `RuntimeError`."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop(None)

    def infer(self, task: str, inputs: Mapping[str, ArrayLike], **options: Unpack[QueryOptions]) -> Answer:
        """Send a query and wait for its answer. Through a gateway, `task` may also name an architecture or a variant.

        Raises:
            QueryError: the query failed; the subclass names the cause, `retryable` is true if a retry may succeed.
            RuntimeError: the client is closed.
        """
        return _answer_to(self._ask(task, inputs, options))

    def infer_many(
        self,
        task: str,
        batches: Iterable[Mapping[str, ArrayLike]],
        *,
        in_flight: int = 256,
        **options: Unpack[QueryOptions],
    ) -> Generator[Answer | QueryError]:
        """Send a stream of queries, `in_flight` at a time, and yield the answer or the error of each, in order.

        Inputs are taken from `batches`, in the caller's thread, no faster than answers are consumed.
        """
        check_stream(options)
        open_calls: deque[Future[Answer]] = deque()
        try:
            for inputs in batches:
                open_calls.append(self._ask_or_fail(task, inputs, options))
                if len(open_calls) >= in_flight:
                    yield _answer_or_error(open_calls.popleft())
            while open_calls:
                yield _answer_or_error(open_calls.popleft())
        finally:
            for call in open_calls:
                call.cancel()

    def stream(self, task: str, prompt: Prompt, **options: Unpack[QueryOptions]) -> Generator[TextPart]:
        """Send a prompt or a chat to a generative task, and yield its answer as it is made, as `InfaasClient.stream`.

        Raises:
            QueryError: the query failed, perhaps after some parts.
            RuntimeError: the client is closed.
        """
        thread = self._connected()
        parts: list[AsyncGenerator[TextPart]] = []

        async def following(client: InfaasClient) -> TextPart | None:
            if not parts:
                parts.append(client.stream(task, prompt, **options))
            return await anext(parts[0], None)

        async def close(_client: InfaasClient) -> None:
            for part in parts:
                await part.aclose()

        try:
            while (part := _answer_to(thread.submit(following))) is not None:
                yield part
        finally:
            with suppress(RuntimeError):  # closed, which has ended the query
                thread.submit(close)

    def _ask(self, task: str, inputs: Mapping[str, ArrayLike], options: QueryOptions) -> Future[Answer]:
        query = encode(task, inputs, options)
        return self._connected().submit(lambda client: client.ask(query))

    def _ask_or_fail(self, task: str, inputs: Mapping[str, ArrayLike], options: QueryOptions) -> Future[Answer]:
        try:
            return self._ask(task, inputs, options)
        except QueryError as error:  # an error of these inputs only: the stream continues
            failed: Future[Answer] = Future()
            failed.set_exception(error)
            return failed

    def _connected(self) -> LoopThread:
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            if self._thread is None:
                self._thread = LoopThread(self._system)  # without a reference to `self`, whose collection stops it
                weakref.finalize(self, self._thread.stop, 0).atexit = False  # `_stop_all` stops threads at exit
            return self._thread

    def _after_fork(self) -> None:
        """Discard the parent's thread and lock in a forked process: a lock that was held would never be released."""
        self._lock = threading.Lock()
        self._thread = None


_clients: Final = weakref.WeakSet[SyncInfaasClient]()


def _answer_to(call: Future[_Result]) -> _Result:
    try:
        return call.result()
    except concurrent.futures.CancelledError:
        raise Internal("the client was closed before the answer came") from None
    except BaseException:  # raised in the waiting thread, e.g. by Ctrl-C
        call.cancel()
        raise


def _answer_or_error(call: Future[Answer]) -> Answer | QueryError:
    try:
        return _answer_to(call)
    except QueryError as error:
        return error


def _after_fork() -> None:
    _of_parents.extend(_running)
    _running.clear()
    for client in list(_clients):
        client._after_fork()  # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
