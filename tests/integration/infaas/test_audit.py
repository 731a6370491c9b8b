"""Tests of `infaas audit`: acts at the command line are recorded and listed."""

import asyncio
import json
import os
import pwd
import socket
from typing import Any

import pytest

from broker.kafka.settings import ENV as KAFKA_ENV
from infaas.cli.output import EXIT_SETUP
from tests.unit.infaas.shell import Shell


async def acts(shell: Shell, *words: str) -> list[dict[str, Any]]:
    return json.loads((await asyncio.to_thread(shell, "audit", "--json", *words)).stdout)


async def test_audit_lists_done_and_failed_acts(registered: Shell) -> None:
    for words, code in (
        (("scale", "pin", "hardware", "cpu", "--min", "2"), 0),
        (("scale", "pin", "task", "nothing", "--min", "1"), EXIT_SETUP),
        (("scale", "unpin", "task", "digits"), EXIT_SETUP),
        (("scale", "pause"), 0),
        (("jobs", "cancel", "0198"), 2),
    ):
        shown = await asyncio.to_thread(registered, *words)
        assert shown.exit_code == code, shown.stderr
    found = await acts(registered)
    assert [(act["verb"], act["subject"], act["outcome"]) for act in found] == [
        ("pin", "hardware cpu", "done"),
        ("pin", "task nothing", "failed"),
        ("unpin", "task digits", "failed"),
        ("pause", "", "done"),
        ("cancel-jobs", "0198", "done"),
    ]
    assert "there is no task" in found[1]["error"]
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert {act["actor"] for act in found} == {f"{user}@{socket.gethostname()}"}
    assert [act["verb"] for act in await acts(registered, "--what", "pause", "--since", "1h")] == ["pause"]
    assert await acts(registered, "--by", "somebody") == await acts(registered, "--until", "1h") == []
    table = (await asyncio.to_thread(registered, "audit", "-n", "1")).stdout
    assert all(word in table for word in ("cancel-jobs", "0198", "done", user))


async def test_audit_records_failed_signing_key_request(connected: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFAAS_SIGNING_SECRET", "s" * 64)
    shown = await asyncio.to_thread(connected, "tenants", "key", "nobody")
    assert (shown.exit_code, shown.stdout) == (EXIT_SETUP, "")
    (act,) = await acts(connected)
    assert (act["verb"], act["subject"], act["outcome"]) == ("show-signing-key", "nobody", "failed")
    assert "there is no tenant" in act["error"]


async def test_audit_records_failed_tenant_removal(connected: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KAFKA_ENV, "127.0.0.1:9")  # no request is sent to it
    shown = await asyncio.to_thread(connected, "tenants", "remove", "nobody")
    assert (shown.exit_code, shown.stdout) == (EXIT_SETUP, "")
    (act,) = await acts(connected)
    assert (act["verb"], act["subject"], act["outcome"]) == ("remove-tenant", "nobody", "failed")
