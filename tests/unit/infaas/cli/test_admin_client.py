"""Tests of commands over a gateway: its answers become the errors of a local command."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest

from admin.api import Empty
from admin.system import lag
from infaas.cli import admin_client
from infaas.cli.admin_client import HttpAdmin, ask_until_reachable, gateway_error, gateway_session
from infaas.cli.connect import find_database
from infaas.up.state import SystemState
from schemas.errors import (
    Forbidden,
    InfaasError,
    InvalidRequest,
    NotFound,
    OperatorError,
    Unauthenticated,
    UnknownTask,
)
from schemas.headers import STATUS
from schemas.result import error_value
from store.settings import ENV as POSTGRES_ENV
from tests.unit.infaas.shell import Shell

URL = "http://user:secret@127.0.0.1:1"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", InvalidRequest),
        (401, "unauthenticated", Unauthenticated),
        (403, "forbidden", Forbidden),
        (404, "invalid_request", NotFound),
        (404, "unknown_task", UnknownTask),
        (409, "invalid_request", OperatorError),
        (500, "internal", OperatorError),
        (503, "overloaded", OperatorError),
        (504, "deadline_exceeded", OperatorError),
    ],
)
def test_gateway_error_restores_class_of_error(status: int, code: str, kind: type[InfaasError]) -> None:
    error = gateway_error(URL, status, {STATUS: code}, error_value("it is as it is"))
    assert type(error) is kind
    assert str(error).startswith("it is as it is")


def test_gateway_error_hides_password_in_url() -> None:
    error = gateway_error(URL, 404, {}, b"<html>")
    assert (type(error), str(error)) == (
        OperatorError, "http://127.0.0.1:1 answers 404: is it a gateway of this system?"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "key", "said"),
    [("http://127.0.0.1:1", "infaas_1 secret", "a space or a line break"), (URL, "infaas_1_secret", "use only one")],
    ids=["malformed key", "user in url"],
)
def test_commands_refuse_key_without_showing_it(
    url: str, key: str, said: str, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFAAS_URL", url)
    monkeypatch.setenv("INFAAS_KEY", key)
    shown = shell("lag")
    assert (shown.exit_code, said in shown.stderr, "secret" in shown.stderr) == (1, True, False)


def test_commands_refuse_invalid_characters(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFAAS_URL", "http://127.0.0.1:1")
    for words in (("scale", "pin", "task", "\udcff", "--min=1"), ("audit", "--by", "\udcff"), ("rollback", "\udcff")):
        shown = shell(*words)
        assert (shown.exit_code, "characters" in shown.stderr) == (2, True), (words, shown.exception)


def test_home_flag_takes_precedence_over_gateway_url(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFAAS_URL", "http://127.0.0.1:1")
    for words in (("unregister", "digits"), ("scale", "pause"), ("status",)):
        assert "no system runs in" in shell(*words, "--home", str(tmp_path)).stderr, words
    assert "cannot reach the gateway" in shell("scale", "pause").stderr


def test_find_database_warns_if_it_ignores_gateway_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_state(_home: Path) -> SystemState:
        return SystemState(
            pid=1, ready=True, gateway="http://127.0.0.1:1", kafka="", kafka_kind="embedded", kafka_reason="",
            fetch_max_wait_ms=1, postgres="here", servers={}, services={},
        )  # fmt: skip

    monkeypatch.delenv(POSTGRES_ENV, raising=False)
    monkeypatch.setattr("infaas.cli.connect.read_state", read_state)
    for url, said in (("http://127.0.0.1:1/v1", 0), ("https://models.example", 1), ("https://models.example", 1)):
        monkeypatch.setenv("INFAAS_URL", url)
        assert Context().run(find_database, tmp_path) == "here"  # in a new context, like a separate command
        assert [str(tmp_path) in one for one in caplog.messages] == [True] * said


async def test_gateway_ask_times_out_on_stalled_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    left = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"!"

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    monkeypatch.setattr(admin_client, "_STALLED_S", 0.05)
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with gateway_session(url) as http:
            with pytest.raises(OperatorError, match="has accepted no data"):
                await HttpAdmin(url, http).send("/v1/uploads/1", 1, pieces())
        await left.wait()


@pytest.mark.parametrize(
    ("answers", "patience_s", "outcome"),
    [
        ((OperatorError("away"), OperatorError("away"), "done"), 60.0, "done"),
        ((OperatorError("away"), NotFound("no such thing"), "done"), 60.0, "no such thing"),
        ((Forbidden("not yours"), "done"), 60.0, "not yours"),
        ((OperatorError("away"), "done"), -1.0, "away"),
    ],
)
async def test_ask_patiently_retries_unreachable_gateway(
    answers: tuple[InfaasError | str, ...], patience_s: float, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter(answers)

    async def ask(*_: Any, **_named: Any) -> Any:
        answer = next(told)
        if isinstance(answer, str):
            return answer
        raise answer

    monkeypatch.setattr(admin_client, "LOOK_S", 0.0)
    monkeypatch.setattr(admin_client, "_PATIENCE_S", patience_s)
    try:
        found: Any = await ask_until_reachable(ask, lag, Empty())
    except InfaasError as error:
        found = str(error)
    assert found == outcome
