"""What `infaas up` tells the other commands: `<home>/state.json`, valid while a lock on its neighbour is held.

The kernel drops the lock when the supervisor dies, however it dies, so a state file left behind is never believed and
no process id that was given to somebody else is ever signalled. The file may hold a password: only its owner reads it.
"""

import asyncio
import fcntl
import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import msgspec
import psutil

from process.secret_file import write_secret
from schemas.errors import OperatorError
from schemas.topics import DEFAULT_NAMESPACE

log = logging.getLogger(__name__)

STATE: Final = "state.json"
LOCK: Final = "up.lock"
_CLAIM_S: Final = 0.5
_TRY_INTERVAL_S: Final = 0.02
_WRITE_AGAIN_S: Final = 1.0


class ServiceState(msgspec.Struct, kw_only=True):
    """A process that the supervisor keeps running."""

    module: str
    """Module that `python -m` starts: the kind of the service."""
    pid: int
    restarts: int
    """Times that it was started again."""
    health: str
    """URL that answers 200 when the service is ready."""
    metrics: str
    log: str


class ServerState(msgspec.Struct, kw_only=True):
    """A server, Kafka or Postgres, that the supervisor keeps running."""

    pid: int
    restarts: int
    """Times that it was started again."""
    address: str
    """`host:port`."""
    state: str
    """`running`, or `down` while it is being started again."""
    alarm: str
    """What was lost when it last ended; empty if nothing was."""
    log: str


class SystemState(msgspec.Struct, kw_only=True):
    """The system that runs in a home: where its parts are and how they get on."""

    pid: int
    """Process id of the supervisor."""
    ready: bool
    """Whether all services have been ready since the start."""
    gateway: str
    """URL of the gateway."""
    grpc: str = ""
    """`host:port` at which the gateway speaks gRPC; empty where it does not."""
    kafka: str
    """`host:port`, several of them joined by commas."""
    kafka_kind: str
    """One of `apache`, `embedded` and `external`."""
    kafka_login: dict[str, str] = {}
    """How to get in there, by the names of `KafkaSettings`: files of secrets, never secrets; empty where all may."""
    namespace: str = DEFAULT_NAMESPACE
    """Beginning of the names of its topics and groups."""
    kafka_reason: str
    """Why the embedded broker stands in for Apache Kafka; empty if it does not."""
    fetch_max_wait_ms: int
    """Longest wait of a fetch that clients of this broker should set, as INFAAS_KAFKA_FETCH_MAX_WAIT_MS."""
    postgres: str
    """DSN of Postgres, with its password."""
    servers: dict[str, ServerState]
    """Those that run here: `kafka` and `postgres`, unless somebody else runs them."""
    services: dict[str, ServiceState]
    sandbox_missing: str = ""
    """Why steps of registrations run without a sandbox; empty if they have one."""


@contextmanager
def claimed(home: Path) -> Generator[None]:
    """Be the only supervisor of `home` while the context is open; then its state file is gone.

    Raises:
        OperatorError: another one runs there.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / LOCK).open("w") as lock:
        if not _try_lock_for(lock, _CLAIM_S):
            raise OperatorError(f"a system already runs in {home}: stop it by `infaas down`, or choose another --home")
        try:
            yield
        finally:
            (home / STATE).unlink(missing_ok=True)


def write_state(home: Path, state: SystemState) -> None:
    """Replace the state file at once; readers see the old or the new one."""
    write_secret(home / STATE, msgspec.json.encode(state).decode())


class StateFile:
    """State file of a system, written anew at each change; where the disk is full, as soon as it takes it."""

    def __init__(self, home: Path, state: Callable[[], SystemState]) -> None:
        self._home = home
        self._state = state
        self._again: asyncio.TimerHandle | None = None

    def write(self) -> None:
        """Write what the state is now."""
        self.close()
        try:
            write_state(self._home, self._state())
        except OSError as error:
            log.warning("the state of the system cannot be written, trying again: %s", error)
            self._again = asyncio.get_running_loop().call_later(_WRITE_AGAIN_S, self.write)

    def close(self) -> None:
        """Write no more by itself."""
        if self._again is not None:
            self._again.cancel()
            self._again = None


def read_state(home: Path) -> SystemState | None:
    """Return the state of the system that runs in `home`; None if none does."""
    try:
        with (home / LOCK).open("r+") as lock:
            if _try_lock(lock):
                return None
        return msgspec.json.decode((home / STATE).read_bytes(), type=SystemState)
    except FileNotFoundError:
        return None


def stop_supervisor(pid: int, within_s: float) -> bool:
    """Ask a supervisor to stop, and wait until it has ended; False: it has not within the time.

    A zombie has ended: only its parent has not asked how, as a container's first process may never do.
    """
    try:
        supervisor = psutil.Process(pid)
        supervisor.terminate()
        end = time.monotonic() + within_s
        while supervisor.is_running() and supervisor.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > end:
                return False
            time.sleep(_TRY_INTERVAL_S)
    except psutil.NoSuchProcess:
        return True
    return True


def _try_lock_for(lock: IO[str], limit_s: float) -> bool:
    """Try to get the lock for a while: a reader that looks whether it is free holds it for an instant."""
    end = time.monotonic() + limit_s
    while not _try_lock(lock):
        if time.monotonic() > end:
            return False
        time.sleep(_TRY_INTERVAL_S)
    return True


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
