"""Jars of Apache Kafka: listed with their SHA-256 in a lock, fetched once, and kept in a cache.

Maven fetches them if it is installed and works, since it knows the user's mirrors and proxies. Otherwise they come from
a Maven repository by plain HTTPS: Maven Central, or the mirror that INFAAS_MAVEN_REPOSITORY names; proxies come from
the environment. A jar is kept only if it is the one in the lock. Our wheel does not contain the jars: they are 43 MB
that most installations do not need. `make lock` writes the lock again from the pom.
"""

import asyncio
import hashlib
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import aiohttp

from process.backoff import Backoff
from process.pauses import retry_until_reachable
from process.subprocesses import log_tail, running
from schemas.errors import OperatorError

FETCH_JARS_S: Final = 600.0
POM: Final = Path(__file__).parent / "maven" / "pom.xml"
LOCK: Final = POM.with_name("jars.lock")
_LOOK_INTERVAL_S: Final = 0.2
_SEEN_BY_MAVEN: Final = re.compile(r"(?:Downloaded from|\[INFO\] Copying) .*?([^/\s]+\.jar)")
ENV: Final = "INFAAS_MAVEN_REPOSITORY"
CENTRAL: Final = "https://repo1.maven.org/maven2"
AT_ONCE: Final = 8
FILE_S: Final = 240.0
"""Seconds that one file of at most 10 MB may take, while seven others are downloaded."""
CONNECT_S: Final = 10.0
SILENT_S: Final = 30.0
TRIES: Final = 3
_BACKOFF: Final = Backoff(first_s=0.2, longest_s=5.0, jitter=0.5)
_BUSY: Final = 429
_SERVER: Final = 500
_ERRORS: Final = (aiohttp.ClientError, TimeoutError)

JarProgress: TypeAlias = Callable[[int, int], None]
"""Callback with the number of jars that are present, and the number of all jars."""


class LockedJar(NamedTuple):
    """Line of the lock: a jar and its SHA-256."""

    sha256: str
    path: str
    """Path of the jar in a Maven repository."""

    @property
    def name(self) -> str:
        """File name, unique in the lock."""
        return self.path.rpartition("/")[2]


def locked_jars() -> list[LockedJar]:
    """Return all jars of the lock, which together are Apache Kafka."""
    return [LockedJar(*line.split(maxsplit=1)) for line in LOCK.read_text().splitlines()]


def cache_dir() -> Path:
    """Return the folder for downloads: INFAAS_CACHE, or else `~/.cache/infaas`."""
    chosen = os.environ.get("INFAAS_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "infaas"


def jars_folder(cache: Path) -> Path:
    """Return the folder for the jars of this lock; it exists once they are fetched."""
    return cache / f"kafka-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"


async def fetch_jars(cache: Path, progress: JarProgress = lambda _done, _total: None) -> Path:
    """Fetch Kafka's jars if they are not in the cache; return their folder.

    Raises:
        OperatorError: the jars cannot be fetched, or one of them is not the one in the lock.
    """
    folder = jars_folder(cache)
    if folder.is_dir():
        return folder
    with _staging(cache) as staging:
        try:
            async with asyncio.timeout(FETCH_JARS_S):
                await _fetch(locked_jars(), staging, progress)
        except TimeoutError:
            raise OperatorError(f"downloading Kafka's jars took more than {FETCH_JARS_S:g} s") from None
        _publish(staging / "jars", folder)
    return folder


async def _fetch(jars: Sequence[LockedJar], staging: Path, progress: JarProgress) -> None:
    into = staging / "jars"
    into.mkdir()
    maven, without = shutil.which("mvn"), ""
    if maven is not None:
        try:
            found = await _copy_by_maven(maven, jars, staging, progress)
        except OperatorError as error:
            without = f"{error}; and without Maven, "
        else:
            for jar in jars:
                await asyncio.to_thread(_copy_verified, jar, found, into)
            progress(len(jars), len(jars))
            return
    try:
        await _download_all(jars, into, progress)
    except OperatorError as error:
        raise OperatorError(f"{without}{error}") from error


# -- by Maven ----------------------------------------------------------------------------------------------------------


async def _copy_by_maven(maven: str, jars: Sequence[LockedJar], staging: Path, progress: JarProgress) -> Path:
    """Copy the jars that Maven resolves for the pom into a folder; return the folder.

    Raises:
        OperatorError: Maven fails.
    """
    found, log = staging / "maven", staging / "maven.log"
    command = [maven, "-B", "-f", POM, "dependency:copy-dependencies", f"-DoutputDirectory={found}"]
    async with running(command, log) as process, asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(_watch_maven(log, {jar.name for jar in jars}, progress))
        code = await process.wait()
        watching.cancel()
    if code != 0:
        raise OperatorError(f"Maven cannot fetch Kafka's jars: {await asyncio.to_thread(_first_error, log)}")
    return found


async def _watch_maven(log: Path, names: set[str], progress: JarProgress) -> None:
    """Report the progress of Maven, which only its log shows."""
    while True:
        seen = set(_SEEN_BY_MAVEN.findall(await asyncio.to_thread(log.read_text, errors="replace")))
        progress(len(seen & names), len(names))
        await asyncio.sleep(_LOOK_INTERVAL_S)


def _first_error(log: Path) -> str:
    """Return the first error line of Maven's log; the other ones only point to documentation."""
    found = re.search(r"^\[ERROR\] (.+)", log.read_text(errors="replace"), re.MULTILINE)
    return found.group(1) if found else log_tail(log)


def _copy_verified(jar: LockedJar, found: Path, into: Path) -> None:
    """Copy a jar of the lock; other files that Maven brings never get on the classpath."""
    try:
        data = (found / jar.name).read_bytes()
    except FileNotFoundError:
        raise OperatorError(f"Maven did not download {jar.name}, which is in the lock of Kafka's jars") from None
    _keep(jar, data, into)


# -- by plain HTTPS ----------------------------------------------------------------------------------------------------


async def _download_all(jars: Sequence[LockedJar], into: Path, progress: JarProgress) -> None:
    """Download jars, a few at a time, and keep each as soon as it is complete.

    Raises:
        OperatorError: a jar cannot be downloaded, or is not kept; the others are cancelled.
    """
    base = (os.environ.get(ENV) or CENTRAL).rstrip("/")
    limit, here = asyncio.Semaphore(AT_ONCE), itertools.count(1)
    timeout = aiohttp.ClientTimeout(total=FILE_S, sock_connect=CONNECT_S, sock_read=SILENT_S)

    async def fetch(http: aiohttp.ClientSession, jar: LockedJar) -> None:
        async with limit:
            try:
                data = await retry_until_reachable(
                    lambda: _get(http, f"{base}/{jar.path}"), _ERRORS, _BACKOFF, may_pass=_may_help, attempts=TRIES
                )
            except _ERRORS as error:
                raise OperatorError(f"{base} cannot be used ({_said(error)}); set {ENV} to a mirror of it") from error
            await asyncio.to_thread(_keep, jar, data, into)
            progress(next(here), len(jars))

    progress(0, len(jars))
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as http, asyncio.TaskGroup() as tasks:
            for jar in jars:
                tasks.create_task(fetch(http, jar), name=f"download {jar.path}")
    except* OperatorError as group:
        failed = group.exceptions[0]
    else:
        return
    raise failed


def _may_help(error: Exception) -> bool:
    """Return true if a retry may help."""
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status == _BUSY or error.status >= _SERVER
    return not isinstance(error, aiohttp.InvalidURL)


async def _get(http: aiohttp.ClientSession, url: str) -> bytes:
    async with http.get(url, raise_for_status=True) as response:
        return await response.read()


def _said(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{error.status} {error.message} for {error.request_info.real_url.path}"
    return str(error) or type(error).__name__


# -- both ways ---------------------------------------------------------------------------------------------------------


def _keep(jar: LockedJar, data: bytes, into: Path) -> None:
    """Write a jar if it is the one in the lock.

    Raises:
        OperatorError: the jar differs, or cannot be written.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != jar.sha256:
        raise OperatorError(
            f"{jar.name} differs from the lock and is not used: its SHA-256 is {found}, not {jar.sha256}"
        )
    try:
        (into / jar.name).write_bytes(data)
    except OSError as error:
        raise _not_kept(into.parent.parent, error) from error


@contextmanager
def _staging(cache: Path) -> Generator[Path]:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # A thread may still write there after a cancellation.
        folder = tempfile.TemporaryDirectory(prefix="fetching-", dir=cache, ignore_cleanup_errors=True)
    except OSError as error:
        raise _not_kept(cache, error) from error
    with folder as path:
        yield Path(path)


def _not_kept(cache: Path, error: OSError) -> OperatorError:
    return OperatorError(f"cannot store Kafka's jars in {cache}: {error.strerror}; set INFAAS_CACHE to another folder")


def _publish(jars: Path, folder: Path) -> None:
    """Move the folder to its place in one step; another process may do the same."""
    try:
        jars.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
