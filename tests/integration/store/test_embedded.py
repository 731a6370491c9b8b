"""The embedded server keeps its data, frees its port, and says what is wrong."""

import asyncio
import os
import pwd
import shutil
import signal
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import OperatorError
from store import registry
from store.embedded import EmbeddedPostgres
from store.migrate import upgrade
from store.pool import open_pool
from tests.store_rows import a_task, register
from tests.waiting import until, until_closed

OWN = """
import asyncio, sys
from pathlib import Path
from store.embedded import EmbeddedPostgres

async def main():
    async with EmbeddedPostgres(Path(sys.argv[1]), durable=False) as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def _killed_owner(program: str, folder: Path) -> int:
    """Run a program that owns a server, kill it, and return the server's port."""
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    port = int(await owner.stdout.readline())
    owner.kill()
    await owner.wait()
    return port


async def test_keeps_its_data_in_a_folder_with_a_long_path(postgres_dir: Path) -> None:
    folder = postgres_dir / ("long-" * 30)
    async with EmbeddedPostgres(folder, durable=False) as server:
        await upgrade(server.dsn)
        async with open_pool(server.dsn) as pool:
            await registry.put_task(pool, a_task())
    async with EmbeddedPostgres(folder, durable=False) as again, open_pool(again.dsn) as pool:
        assert [task.name for task in await registry.list_tasks(pool)] == ["digits"]
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", again.port), timeout=1):
        pass


async def test_a_taken_port_names_the_flag(postgres_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OperatorError, match="--postgres-port"):
            async with EmbeddedPostgres(postgres_dir, port):
                pass


async def test_a_folder_has_one_server_and_the_password_one_reader(postgres_dir: Path) -> None:
    async with EmbeddedPostgres(postgres_dir, durable=False) as server:
        with pytest.raises(OperatorError, match="another process"):
            async with EmbeddedPostgres(postgres_dir):
                pass
        assert stat.S_IMODE((postgres_dir / "password").stat().st_mode) == 0o600
        without = server.dsn.replace(":" + server.dsn.split(":")[2].split("@")[0], "")
        assert "@" in without
        with pytest.raises(OperatorError, match="password"):
            async with open_pool(without):
                pass


async def test_a_server_does_not_outlive_a_killed_owner(postgres_dir: Path) -> None:
    port = await _killed_owner(OWN, postgres_dir)
    await until_closed("127.0.0.1", port)
    await until(lambda: not (postgres_dir / "data" / "postmaster.pid").exists())
    # Cleanly, that is; it says so after it has removed the file.
    await until(lambda: "database system is shut down" in (postgres_dir / "postgres.log").read_text())


async def test_a_server_that_is_still_shutting_down_is_waited_for(postgres_dir: Path) -> None:
    port = await _killed_owner(OWN, postgres_dir)
    async with EmbeddedPostgres(postgres_dir, port, durable=False) as server:
        assert server.port == port


async def test_an_orphan_of_a_killed_owner_is_replaced(postgres_dir: Path) -> None:
    # As on a system whose kernel tells children nothing.
    port = await _killed_owner("import sys, psutil; sys.platform = 'other'\n" + OWN, postgres_dir)
    socket.create_connection(("127.0.0.1", port), timeout=1).close()  # the orphan still answers
    async with EmbeddedPostgres(postgres_dir, port, durable=False) as server:
        assert server.port == port
        await upgrade(server.dsn)


@pytest.mark.parametrize("name", ["stranger", "postgres"])
async def test_a_left_pid_file_that_names_a_stranger_does_it_no_harm(postgres_dir: Path, name: str) -> None:
    async with EmbeddedPostgres(postgres_dir, durable=False) as server:
        await upgrade(server.dsn)
        left = (postgres_dir / "data" / "postmaster.pid").read_text()
    program = shutil.copy(shutil.which("sleep") or "", postgres_dir.parent / name)
    # One that the server's own programs could signal: they run as `nobody` where we are root.
    group = pwd.getpwnam("nobody").pw_gid
    account: dict[str, Any] = {"user": "nobody", "group": group, "extra_groups": []} if os.geteuid() == 0 else {}
    stranger = await asyncio.create_subprocess_exec(program, "300", **account)
    try:
        (postgres_dir / "data" / "postmaster.pid").write_text(
            left.replace(left.partition("\n")[0], str(stranger.pid), 1)
        )
        async with EmbeddedPostgres(postgres_dir, durable=False) as server, open_pool(server.dsn) as pool:
            assert await registry.list_tasks(pool) == []
        assert stranger.returncode is None
    finally:
        if stranger.returncode is None:
            stranger.kill()
        await stranger.wait()


async def test_a_server_that_was_killed_starts_again_where_it_was(postgres_dir: Path) -> None:
    async with EmbeddedPostgres(postgres_dir) as server:
        await upgrade(server.dsn)
        dsn, pid = server.dsn, server.pid
        async with open_pool(dsn) as pool:
            await registry.put_task(pool, a_task())
            os.kill(pid, signal.SIGKILL)
            assert await server.ended() == -signal.SIGKILL
            await server.start()
            assert (server.dsn, server.pid != pid) == (dsn, True)
            assert [task.name for task in await registry.list_tasks(pool)] == ["digits"]


async def test_an_older_postgres_does_as_well(postgres_dir: Path) -> None:
    async with EmbeddedPostgres(postgres_dir, durable=False, version=16) as server:
        await upgrade(server.dsn)
        async with open_pool(server.dsn) as pool:
            version = await pool.fetch_value(int, "SELECT current_setting('server_version_num')::integer")
            assert version is not None
            assert version // 10_000 == 16
            await register(pool, "mlp.onnx-fp32.cpu")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the server another user")
async def test_under_root_it_runs_as_somebody_else(postgres_dir: Path) -> None:
    os.makedirs(postgres_dir / "private", 0o700)
    async with EmbeddedPostgres(postgres_dir / "private" / "pg", durable=False):
        assert os.stat(postgres_dir / "private" / "pg" / "data").st_uid != 0
