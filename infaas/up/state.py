"""State file of `infaas up`, `<home>/state.json`, for the other commands; valid while `<home>/up.lock` is locked.

The kernel drops the lock when the supervisor ends for any reason. So a stale state file is never used, and no process
that has reused the supervisor's process id is signalled. Only the owner can read the file, since it may contain a
password.
"""

import asyncio
import fcntl
import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Final

import msgspec
import psutil

from process.secrets import write_secret
from schemas.errors import OperatorError
from schemas.topics import DEFAULT_NAMESPACE

log = logging.getLogger(__name__)

STATE: Final = "state.json"
LOCK: Final = "up.lock"
_CLAIM_S: Final = 0.5
_TRY_INTERVAL_S: Final = 0.02
_WRITE_AGAIN_S: Final = 1.0


class KafkaKind(StrEnum):
    """Kinds of Kafka for a system."""

    AUTO = "auto"
    """INFAAS_KAFKA if it is set; else Apache Kafka if available; else the embedded broker."""
    APACHE = "apache"
    EMBEDDED = "embedded"
    EXTERNAL = "external"


class ServiceState(msgspec.Struct, kw_only=True):
    """A service process run by the supervisor."""

    module: str
    """Module that `python -m` starts; identifies the kind of service."""
    pid: int
    restarts: int
    """Number of restarts."""
    health: str
    """URL that answers 200 when the service is ready."""
    metrics: str
    log: str


class ServerState(msgspec.Struct, kw_only=True):
    """A Kafka or Postgres run by the supervisor."""

    pid: int
    restarts: int
    """Number of restarts."""
    address: str
    """`host:port`."""
    state: str
    """`running`, or `down` until the restart is complete."""
    alarm: str
    """Data lost at the last end of the server; empty if none was lost."""
    log: str


class SystemState(msgspec.Struct, kw_only=True):
    """The running system of a home: addresses and state of its parts."""

    pid: int
    """Process id of the supervisor."""
    ready: bool
    """True once all services have been ready."""
    gateway: str
    """URL of the gateway."""
    grpc: str = ""
    """`host:port` of the gateway's gRPC; empty if gRPC is off."""
    kafka: str
    """`host:port`; several are separated by commas."""
    kafka_kind: str
    """One of `apache`, `embedded` and `external`."""
    kafka_login: dict[str, str] = {}
    """Kafka credentials by their names in `KafkaSettings`: paths of secret files, never secrets; empty if none are
    needed.
    """
    namespace: str = DEFAULT_NAMESPACE
    """Namespace: prefix of the system's topics and groups."""
    kafka_reason: str
    """Reason why the embedded broker is used instead of Apache Kafka; empty if it is not."""
    fetch_max_wait_ms: int
    """Longest wait of a fetch that clients should use with this broker, as INFAAS_KAFKA_FETCH_MAX_WAIT_MS."""
    postgres: str
    """DSN of Postgres, with its password."""
    servers: dict[str, ServerState]
    """Servers run by the supervisor, `kafka` and `postgres`; external ones are absent."""
    services: dict[str, ServiceState]
    sandbox_missing: str = ""
    """Reason why registration steps run without a sandbox; empty if they run in one."""


@contextmanager
def claimed(home: Path) -> Generator[None]:
    """Hold the lock of `home` as its only supervisor; the state file is deleted on exit.

    Raises:
        OperatorError: another supervisor runs in this home.
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
    """Replace the state file atomically: readers see the old or the new content."""
    write_secret(home / STATE, msgspec.json.encode(state).decode())


class StateFile:
    """State file that is rewritten at each change. If the disk is full, the write is retried until it succeeds."""

    def __init__(self, home: Path, state: Callable[[], SystemState]) -> None:
        self._home = home
        self._state = state
        self._again: asyncio.TimerHandle | None = None

    def write(self) -> None:
        """Write the current state."""
        self.close()
        try:
            write_state(self._home, self._state())
        except OSError as error:
            log.warning("cannot write the state of the system, will retry: %s", error)
            self._again = asyncio.get_running_loop().call_later(_WRITE_AGAIN_S, self.write)

    def close(self) -> None:
        """Cancel the pending retry."""
        if self._again is not None:
            self._again.cancel()
            self._again = None


def read_state(home: Path) -> SystemState | None:
    """Return the state of the system that runs in `home`; None if none runs."""
    try:
        with (home / LOCK).open("r+") as lock:
            if _try_lock(lock):
                return None
        return msgspec.json.decode((home / STATE).read_bytes(), type=SystemState)
    except FileNotFoundError:
        return None


def stop_supervisor(pid: int, within_s: float) -> bool:
    """Ask a supervisor to stop and wait until it has ended; returns false if it has not ended in time.

    A zombie counts as ended. The first process of a container may never collect the exit codes of its children.
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
    """Try to get the lock for a while, since a reader that tests the lock holds it for a moment."""
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
