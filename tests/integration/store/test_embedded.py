"""Tests of the embedded Postgres server: its data, port, password, owner and errors."""

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
from tests.example_rows import a_task, register
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


async def test_embedded_postgres_keeps_data_under_long_path(postgres_dir: Path) -> None:
    folder = postgres_dir / ("long-" * 30)
    async with EmbeddedPostgres(folder, durable=False) as server:
        await upgrade(server.dsn)
        async with open_pool(server.dsn) as pool:
            await registry.put_task(pool, a_task())
    async with EmbeddedPostgres(folder, durable=False) as again, open_pool(again.dsn) as pool:
        assert [task.name for task in await registry.list_tasks(pool)] == ["digits"]
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", again.port), timeout=1):
        pass


async def test_embedded_postgres_port_in_use_names_flag(postgres_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OperatorError, match="--postgres-port"):
            async with EmbeddedPostgres(postgres_dir, port):
                pass


async def test_embedded_postgres_folder_has_one_server(postgres_dir: Path) -> None:
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


async def test_embedded_postgres_stops_after_killed_owner(postgres_dir: Path) -> None:
    port = await _killed_owner(OWN, postgres_dir)
    await until_closed("127.0.0.1", port)
    await until(lambda: not (postgres_dir / "data" / "postmaster.pid").exists())
    # The shutdown was clean; the server logs that after it has removed the file.
    await until(lambda: "database system is shut down" in (postgres_dir / "postgres.log").read_text())


async def test_embedded_postgres_waits_for_earlier_shutdown(postgres_dir: Path) -> None:
    port = await _killed_owner(OWN, postgres_dir)
    async with EmbeddedPostgres(postgres_dir, port, durable=False) as server:
        assert server.port == port


async def test_embedded_postgres_replaces_orphan(postgres_dir: Path) -> None:
    # Imitates a system whose kernel does not signal children when their parent dies.
    port = await _killed_owner("import sys, psutil, store.settings; sys.platform = 'other'\n" + OWN, postgres_dir)
    socket.create_connection(("127.0.0.1", port), timeout=1).close()  # the orphan still answers
    async with EmbeddedPostgres(postgres_dir, port, durable=False) as server:
        assert server.port == port
        await upgrade(server.dsn)


@pytest.mark.parametrize("name", ["stranger", "postgres"])
async def test_stale_pid_file_harms_no_foreign_process(postgres_dir: Path, name: str) -> None:
    async with EmbeddedPostgres(postgres_dir, durable=False) as server:
        await upgrade(server.dsn)
        left = (postgres_dir / "data" / "postmaster.pid").read_text()
    program = shutil.copy(shutil.which("sleep") or "", postgres_dir.parent / name)
    # A process that the server's programs may signal: they run as `nobody` if the tests run as root.
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


async def test_killed_postgres_restarts_with_same_dsn_and_data(postgres_dir: Path) -> None:
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


async def test_embedded_postgres_16_is_supported(postgres_dir: Path) -> None:
    async with EmbeddedPostgres(postgres_dir, durable=False, version=16) as server:
        await upgrade(server.dsn)
        async with open_pool(server.dsn) as pool:
            version = await pool.fetch_value(int, "SELECT current_setting('server_version_num')::integer")
            assert version is not None
            assert version // 10_000 == 16
            await register(pool, "mlp.onnx-fp32.cpu")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the server another user")
async def test_embedded_postgres_under_root_uses_other_user(postgres_dir: Path) -> None:
    os.makedirs(postgres_dir / "private", 0o700)
    async with EmbeddedPostgres(postgres_dir / "private" / "pg", durable=False):
        assert os.stat(postgres_dir / "private" / "pg" / "data").st_uid != 0
