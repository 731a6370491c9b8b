"""Client for programs without an event loop: the same calls as `InfaasClient`, but blocking.

    with SyncInfaasClient(kafka="127.0.0.1:9092") as client:             # or gateway="http://127.0.0.1:8080"
        answer = client.infer("sentiment-text", {"text": ["a wonderful film"]}, latency_ms=2000)

Rules.
* Any number of threads may use one client. Their queries share its connections, which an event loop in a background
  thread serves. The client connects on first use or on entry.
* The calling thread encodes the inputs before the call returns, so the arrays may be changed afterwards.
* A forked process opens its own connections when it uses the client, and does not touch the parent's.
* An unclosed client is closed when the program exits or when the client is garbage collected.
"""

import concurrent.futures
import os
import threading
import weakref
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Final, Self, Unpack

from numpy.typing import ArrayLike

from infaas.client.client import (
    Answer,
    InfaasClient,
    QueryOptions,
    SystemOptions,
    check_stream,
    check_system,
    encode,
)
from infaas.client.loop_thread import LoopThread
from schemas.errors import Internal, QueryError


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
        self._thread: LoopThread[InfaasClient] | None = None
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

    def _connected(self) -> LoopThread[InfaasClient]:
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            if self._thread is None:
                system = self._system  # the thread must not refer to `self`, whose collection stops it
                self._thread = LoopThread(lambda: InfaasClient(**system), "infaas-client")
                weakref.finalize(self, self._thread.stop, 0).atexit = False  # `_stop_all` stops threads at exit
            return self._thread

    def _after_fork(self) -> None:
        """Discard the parent's thread and lock in a forked process: a lock that was held would never be released."""
        self._lock = threading.Lock()
        self._thread = None


_clients: Final = weakref.WeakSet[SyncInfaasClient]()


def _answer_to(call: Future[Answer]) -> Answer:
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
    for client in list(_clients):
        client._after_fork()  # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
