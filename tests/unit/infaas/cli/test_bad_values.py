"""Tests of bad values: any flag of any command ends in a message and an exit code, never in a traceback."""

import errno
import os
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
from typer.testing import CliRunner, Result

from infaas.cli.main import app
from infaas.cli.output import EXIT_QUERY, EXIT_SETUP
from infaas.up import state
from process.errors import listen_words, os_error_words
from schemas.errors import OperatorError
from tests.unit.infaas.shell import Shell

_HUGE = "9" * 25
_TEXTS = ("\x01", "x" * 5000, "\udcff")
_NUMBERS = ("x", "", "-1", _HUGE)
_REALS = ("x", "nan", "inf", "-1")


def commands(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield all commands below a group, with the words that call them."""
    if path and (not hasattr(group, "commands") or group.invoke_without_command):
        yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *path, name)


def kind_of(parameter: Any) -> type:
    annotation = parameter.type_descriptor.annotation
    return next(iter(get_args(annotation)), annotation)


def bad_values(kind: type, file: Path) -> tuple[str, ...]:
    if issubclass(kind, Enum):
        return ("nonsense", "")
    if issubclass(kind, Path):
        return ("", f"{file}/below", "/", "/nowhere/at/all", "x" * 5000)
    return {bool: (), int: _NUMBERS, float: _REALS, str: _TEXTS}[kind]


def good_value(kind: type, file: Path) -> str:
    if issubclass(kind, Enum):
        return str(next(iter(kind)).value)
    return {int: "1", float: "0.5"}.get(kind, str(file) if issubclass(kind, Path) else "name")


def lines(command: Any, file: Path) -> Iterator[list[str]]:
    """Yield command lines with one bad value each."""
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    needed = [one for one in command.params if one.required and one not in arguments]
    flags = [word for one in needed for word in (one.opts[0], good_value(kind_of(one), file))]
    for parameter in (one for one in command.params if one.name not in ("home", "help")):
        for bad in bad_values(kind_of(parameter), file):
            words = [bad if one is parameter else good_value(kind_of(one), file) for one in arguments if one.required]
            if parameter not in arguments:
                yield [*flags, parameter.opts[0], bad, *words]
            else:
                yield [*flags, "--", *words, *([] if parameter.required else [bad])]


_COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.usefixtures("shell")  # the environment names no system
@pytest.mark.parametrize("path", _COMMANDS, ids=" ".join)
def test_commands_explain_bad_values(path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infaas.up.system.choose_kafka", starts_nothing)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INFAAS_HOME", str(tmp_path / "home"))
    file = tmp_path / "file.onnx"
    file.write_bytes(b"no model")
    for words in lines(_COMMANDS[path], file):
        ended_in_words(CliRunner().invoke(app, [*path, *words]))


async def starts_nothing(*_: object) -> None:
    raise OperatorError("a test starts no Kafka")


def ended_in_words(result: Result) -> None:
    if result.exit_code == 0:
        return
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (EXIT_SETUP, EXIT_QUERY)
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("words", [("up",), ("status",), ("tasks",), ("down",), ("demo",), ("query", "t", "x")])
def test_commands_explain_home_that_is_a_file(words: tuple[str, ...], tmp_path: Path) -> None:
    home = tmp_path / "file"
    home.touch()
    shown = CliRunner().invoke(app, [*words, "--home", str(home)])
    assert shown.exit_code == EXIT_SETUP
    assert f"{home}" in shown.stderr.replace("\n", "")
    assert isinstance(shown.exception, SystemExit)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "this user may not read or write"),
        (errno.EROFS, "read-only file system"),
        (errno.ENOSPC, "the disk is full"),
    ],
)
def test_up_explains_home_that_cannot_be_written(
    number: int, words: str, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(state.Path, "mkdir", refuse)
    shown = shell("up")
    assert shown.exit_code == EXIT_SETUP
    assert words in shown.stderr.replace("\n", " ")


@pytest.mark.parametrize("flag", ["--gateway-port", "--kafka-port", "--postgres-port", "--metrics-port"])
def test_up_refuses_port_out_of_range(flag: str, shell: Shell) -> None:
    shown = shell("up", flag, "99999")
    assert shown.exit_code == EXIT_QUERY
    assert flag in shown.stderr


def test_up_checks_all_metrics_ports_before_start(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infaas.up.system.choose_kafka", starts_nothing)
    shown = shell("up", "--metrics-port", "65535", "--gateway-port", "0", "--kafka-port", "0")
    assert shown.exit_code == EXIT_SETUP
    assert "65536 is not a port, the last is 65535; choose another --metrics-port" in shown.stderr.replace("\n", " ")


def test_up_refuses_ipv6_host(shell: Shell) -> None:
    shown = shell("up", "--gateway-host", "::1")
    assert shown.exit_code == EXIT_SETUP
    assert "--gateway-host ::1 is an IPv6 address" in shown.stderr.replace("\n", " ")


def test_up_tells_unknown_host_from_taken_port(shell: Shell) -> None:
    shown = shell("up", "--kafka-port=0", "--gateway-host", "no-such-host.invalid", "--allow-anonymous")
    assert shown.exit_code == EXIT_SETUP
    assert "unknown host 'no-such-host.invalid'" in shown.stderr.replace("\n", " ")
    assert "in use" not in shown.stderr


def test_os_error_words_explain_system_errors() -> None:
    assert "there is no /x" in os_error_words(FileNotFoundError(errno.ENOENT, "No such file", "/x"))
    assert "disk is full" in os_error_words(OSError(errno.ENOSPC, "No space left on device"))
    assert os_error_words(OSError("odd")) == "odd"
    taken = OSError(errno.EADDRINUSE, "in use")
    assert listen_words("h", 1, taken, "--port") == "port 1 of h is in use (in use); choose another --port"
    assert "not an address of this machine" in listen_words("h", 1, OSError(errno.EADDRNOTAVAIL, "no"), "--port")


def test_query_explains_damaged_npz_file(shell: Shell, tmp_path: Path) -> None:
    for name, content in (("a.npz", b"PK\x03\x04 cut off"), ("b.npz", b""), ("c.npz", b"\x80\x04no")):
        file = tmp_path / name
        file.write_bytes(content)
        shown = shell("query", "task", "--inputs", str(file))
        assert (shown.exit_code, "not an .npz file of plain arrays" in shown.stderr.replace("\n", " ")) == (
            EXIT_SETUP,
            True,
        )
