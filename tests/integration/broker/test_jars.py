"""Tests of fetching Kafka's jars from Maven or a repository: verified against the lock, all or none."""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.kafka.servers.jars import AT_ONCE, ENV, LOCK, POM, TRIES, fetch_jars, jars_folder, locked_jars
from schemas.errors import OperatorError
from tests.kafka_fixtures import need_apache
from tests.maven_repository import Repository, serving

JARS = {f"org/test/jar{number}/1/jar{number}-1.jar": b"jar %d" % number for number in range(2 * AT_ONCE)}
PutMaven = Callable[[dict[str, bytes], int], None]


@asynccontextmanager
async def without_maven(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[None]:
    """Hide Maven, and serve jars from this repository, while the context is open."""
    monkeypatch.setenv("PATH", "")
    async with serving(repository) as url:
        monkeypatch.setenv(ENV, url)
        yield


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Lock file of small jars; returns their contents by path."""
    lock = tmp_path / "jars.lock"
    lock.write_text("".join(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in JARS.items()))
    monkeypatch.setattr("broker.kafka.servers.jars.LOCK", lock)
    return dict(JARS)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_jars_lock_matches_kafka_version_of_pom() -> None:
    version = re.search(r"<kafka.version>(.+)</kafka.version>", POM.read_text())
    assert version is not None
    names = [jar.name for jar in locked_jars()]
    assert f"kafka_2.13-{version.group(1)}.jar" in names
    assert len(set(names)) == len(names), "they share a folder"
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in locked_jars())


async def test_fetch_jars_without_maven_uses_repository(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jars = await asyncio.to_thread(need_apache)
    repository = Repository({jar.path: (jars / jar.name).read_bytes() for jar in locked_jars()})
    seen: list[tuple[int, int]] = []
    async with without_maven(repository, monkeypatch):
        folder = await fetch_jars(cache, lambda done, total: seen.append((done, total)))
    assert folder == jars_folder(cache)
    assert names_in(folder) == {jar.name for jar in locked_jars()}
    assert seen == [(number, len(locked_jars())) for number in range(len(locked_jars()) + 1)]
    assert names_in(cache) == {folder.name}, "nothing else is left"
    assert await fetch_jars(cache) == folder, "the repository is gone, and not needed"


async def test_fetch_jars_limits_concurrency_and_retries(
    locked: dict[str, bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, busy = Repository(locked), next(iter(locked))
    repository.failures[busy] = [503] * (TRIES - 1)
    async with without_maven(repository, monkeypatch):
        folder = await fetch_jars(cache)
    assert {path: (folder / path.rpartition("/")[2]).read_bytes() for path in locked} == locked
    assert repository.asked == {path: TRIES if path == busy else 1 for path in locked}
    assert 1 < repository.most_at_once <= AT_ONCE


async def test_fetch_jars_rejects_file_with_wrong_hash(
    locked: dict[str, bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, forged = Repository(locked), list(locked)[3]
    locked[forged] += b" forged"
    async with without_maven(repository, monkeypatch):
        with pytest.raises(OperatorError, match=r"jar3-1\.jar differs from the lock and is not used: its SHA-256 is"):
            await fetch_jars(cache)
    assert repository.asked[forged] == 1, "the same would come again"
    assert names_in(cache) == set()


async def test_fetch_jars_error_names_url_and_setting(
    locked: dict[str, bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, missing = Repository(locked), list(locked)[3]
    del locked[missing]
    async with without_maven(repository, monkeypatch):
        with pytest.raises(OperatorError, match=rf"404 Not Found for /maven2/{missing}.*{ENV}"):
            await fetch_jars(cache)
    with pytest.raises(OperatorError, match=rf"cannot be used \(Cannot connect.*{ENV}"):
        await fetch_jars(cache)
    assert names_in(cache) == set()


async def test_fetch_jars_names_unwritable_cache(
    locked: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    async with without_maven(Repository(locked), monkeypatch):
        with pytest.raises(OperatorError, match=r"cannot store Kafka's jars in .*file/cache.*INFAAS_CACHE"):
            await fetch_jars(tmp_path / "file" / "cache")


@pytest.fixture
def put_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PutMaven:
    """Function that puts a fake Maven on PATH: it copies these jars, or fails with an exit code."""

    def put(files: dict[str, bytes], code: int) -> None:
        brought = tmp_path / "brought"
        brought.mkdir()
        for path, data in files.items():
            (brought / path.rpartition("/")[2]).write_bytes(data)
        program = tmp_path / "bin" / "mvn"
        program.parent.mkdir()
        copy = f"for word; do case $word in -DoutputDirectory=*) /bin/cp -r {brought} ${{word#*=}};; esac; done"
        complain = "echo '[INFO] Scanning'; echo '[ERROR] no such host'; echo '[ERROR] read about it'"
        program.write_text(f"#!/bin/sh\n{complain if code else copy}\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))

    return put


async def test_fetch_jars_takes_only_locked_files_from_maven(
    locked: dict[str, bytes], cache: Path, put_maven: PutMaven
) -> None:
    put_maven({**locked, "org/test/more/1/more-1.jar": b"more"}, 0)
    seen: list[tuple[int, int]] = []
    folder = await fetch_jars(cache, lambda done, total: seen.append((done, total)))
    assert names_in(folder) == {path.rpartition("/")[2] for path in locked}
    assert seen[-1] == (len(locked), len(locked))


async def test_fetch_jars_verifies_files_from_maven(locked: dict[str, bytes], cache: Path, put_maven: PutMaven) -> None:
    put_maven({**locked, list(locked)[5]: b"forged"}, 0)
    with pytest.raises(OperatorError, match=r"jar5-1\.jar differs from the lock"):
        await fetch_jars(cache)
    assert names_in(cache) == set()


async def test_fetch_jars_uses_repository_when_maven_fails(
    locked: dict[str, bytes], cache: Path, put_maven: PutMaven, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_maven({}, 1)
    async with serving(Repository(locked)) as url:
        monkeypatch.setenv(ENV, url)
        assert len(names_in(await fetch_jars(cache))) == len(locked)
    with pytest.raises(OperatorError, match=r"Maven cannot fetch Kafka's jars: no such host; and without Maven, http"):
        await fetch_jars(cache.with_name("other"))


def test_jars_folder_depends_on_lock(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before, changed = jars_folder(cache), tmp_path / "changed.lock"
    changed.write_text(LOCK.read_text() + "\n")
    monkeypatch.setattr("broker.kafka.servers.jars.LOCK", changed)
    assert jars_folder(cache) != before
