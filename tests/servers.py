"""Pytest plugin for the servers of a run: each starts when the first test asks for it.

All processes of pytest-xdist share the database server: the process that distributes the tests runs it, and the others
ask it over a Unix socket. A broker belongs to one process, because groups and the topics of the system have constant
names. Tests use topics and databases of their own, and neither stop nor reconfigure a server.
"""

import asyncio
import pickle
import socket
import socketserver
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final, Protocol, TypeVar

import pytest

from schemas.errors import OperatorError

T = TypeVar("T")
Start = Callable[[Path], AbstractContextManager[Any]]
"""Runs a server, given an empty folder, and yields what tests need to reach it, a value that pickle accepts."""
starts: Final[dict[str, Start]] = {}
"""Servers by name; the plugins that have their fixtures add them."""
_SHARED: Final = "postgres"
_SOCKET: Final = "servers"
_held = pytest.StashKey["Servers"]()


class Servers(Protocol):
    """Source of started servers."""

    def get(self, name: str) -> Any:
        """Return how to reach the server of this name; start it if it does not run.

        Raises:
            OperatorError: it cannot be started, with the reason.
        """
        ...


def servers(config: pytest.Config) -> Servers:
    """Return the servers of this run."""
    return config.stash[_held]


@contextmanager
def served(make: Callable[[], AbstractAsyncContextManager[T]]) -> Generator[T]:
    """Run a server in a thread with an event loop of its own, for it outlives the event loop of a test."""
    ready, started = threading.Event(), list[T]()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    failed: list[BaseException] = []

    async def serve() -> None:
        async with make() as server:
            started.append(server)
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(serve())
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread below
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="server")
    thread.start()
    ready.wait()
    try:
        if failed:
            raise failed[0]
        yield started[0]
    finally:
        if not failed:
            loop.call_soon_threadsafe(stop.set)
        thread.join()


class _OwnServers:
    """Servers that this process runs."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._started: dict[str, Any] = {}
        self._locks = {name: threading.Lock() for name in starts}

    def get(self, name: str) -> Any:
        with self._locks[name]:
            if name not in self._started:
                folder = Path(mkdtemp(prefix=f"{name}-"))
                try:
                    self._started[name] = self._stack.enter_context(starts[name](folder))
                except OperatorError as error:
                    self._started[name] = error
        return _or_raised(self._started[name])

    def close(self) -> None:
        self._stack.close()


class _Answers(socketserver.StreamRequestHandler):
    """Answers each request, the name of a server, with what `Servers.get` returns or raises."""

    def handle(self) -> None:
        assert isinstance(self.server, _Door)
        try:
            answer = self.server.servers.get(self.rfile.readline().decode().strip())
        except Exception as error:  # noqa: BLE001 - raised in the process that asked
            answer = error
        self.wfile.write(pickle.dumps(answer))


class _Door(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, servers: _OwnServers) -> None:
        self.servers = servers
        super().__init__(str(path), _Answers)


class _ProcessServers:
    """Servers of one process of several: its own, and the shared one, behind the door at this path."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._own = _OwnServers()
        self._shared: Any = None

    def get(self, name: str) -> Any:
        if name != _SHARED:
            return self._own.get(name)
        if self._shared is None:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(self._path)
                connection.sendall(f"{name}\n".encode())
                self._shared = pickle.loads(connection.makefile("rb").read())
        return _or_raised(self._shared)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._own.close()


def _or_raised(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


class _Running:
    """Hooks of the process that runs the servers."""

    def __init__(self, config: pytest.Config) -> None:
        self._servers = config.stash[_held] = _OwnServers()
        self._path = Path(mkdtemp(prefix="run-")) / _SOCKET
        self._door = _Door(self._path, self._servers)
        threading.Thread(target=self._door.serve_forever, name="door of servers", daemon=True).start()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[_SOCKET] = str(self._path)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Stop the servers before the folder of the run is removed; by now the other processes have ended."""
        self._door.shutdown()
        self._door.server_close()
        self._servers.close()


def pytest_configure(config: pytest.Config) -> None:
    workerinput: dict[str, str] | None = getattr(config, "workerinput", None)
    if workerinput is None:
        config.pluginmanager.register(_Running(config))
    else:
        config.stash[_held] = own = _ProcessServers(workerinput[_SOCKET])
        config.pluginmanager.register(own)
