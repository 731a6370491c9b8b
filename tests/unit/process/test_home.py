"""Tests of commands to a supervisor, through a socket whose path is too long for a socket address."""

import asyncio
import stat
from collections.abc import Generator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from process.home import (
    SOCKET,
    CommandReply,
    ProcessPool,
    ProcessStatus,
    SupervisorCommand,
    SupervisorUnavailable,
    command_server,
    send_command,
)

POOL = ProcessPool(hardware="cpu", maximum=3, cores=1, memory_bytes=1)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    deep = tmp_path / ("a-very-long-name-of-a-folder-" * 4) / ("and-another-one-" * 4)
    deep.mkdir(parents=True)
    return deep


@pytest.fixture
def short(home: Path) -> Generator[Path]:
    """Link to the home with a path that is short enough for a socket address."""
    with TemporaryDirectory(dir="/tmp") as folder:
        link = Path(folder) / "home"
        link.symlink_to(home)
        yield link


async def test_command_server_answers_concurrent_commands(home: Path) -> None:
    commands: list[SupervisorCommand] = []

    def answer(command: SupervisorCommand) -> CommandReply:
        commands.append(command)
        return CommandReply(processes=(ProcessStatus(name=command.name, state="starting"),), pools=(POOL,))

    async with command_server(home, answer):
        assert stat.S_IMODE((home / SOCKET).stat().st_mode) == 0o600
        async with asyncio.TaskGroup() as tasks:
            asked = [
                tasks.create_task(send_command(home, SupervisorCommand(verb="start", name=f"cpu-{n}")))
                for n in range(5)
            ]
    assert {report.result().processes[0].name for report in asked} == {f"cpu-{n}" for n in range(5)}
    assert {command.verb for command in commands} == {"start"}
    assert not (home / SOCKET).exists()


async def test_command_server_survives_malformed_input(home: Path, short: Path) -> None:
    async with command_server(home, lambda _order: CommandReply(pools=(POOL,))):
        for nonsense in (b"{]\n", b"", b"x" * 100_000 + b"\n"):
            reader, writer = await asyncio.open_unix_connection(short / SOCKET)
            writer.write(nonsense)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
        assert (await send_command(home, SupervisorCommand(verb="list"))).pools == (POOL,)


async def test_stale_socket_is_reported_and_replaced(home: Path) -> None:
    with pytest.raises(SupervisorUnavailable, match="infaas up"):
        await send_command(home, SupervisorCommand(verb="list"))
    (home / SOCKET).write_text("left behind")
    with pytest.raises(SupervisorUnavailable, match="infaas up"):
        await send_command(home, SupervisorCommand(verb="list"))
    async with command_server(home, lambda _order: CommandReply()):
        await send_command(home, SupervisorCommand(verb="list"))
