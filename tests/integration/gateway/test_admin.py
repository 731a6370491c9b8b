"""The admin API of a gateway: the same as the command line on Postgres, by whoever may."""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import NamedTuple

import pytest

from broker.settings import KafkaSettings
from infaas.supervisor.options import POSTGRES_ENV
from schemas.principal import Role
from security.api_keys import ApiKey
from store.audit import list_acts
from store.pool import Pool
from store.scaling import list_pins
from tests.integration.gateway.test_authentication import Guarded, guarded, new_key
from tests.store_rows import register
from tests.unit.infaas.shell import Shell

VARIANT = "mlp.onnx-fp32.cpu"
PIN = f"/v1/scale/pins/variant/{VARIANT}"


class Remote(NamedTuple):
    """A gateway, an administrator's key, and the command line of a machine where nothing runs."""

    gateway: Guarded
    admin: ApiKey
    shell: Shell


@pytest.fixture
async def remote(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Remote]:
    await register(store_pool, VARIANT)
    admin = await new_key(store_pool, None, Role.ADMIN)
    async with guarded(kafka, database) as (gateway,):
        for name in ("INFAAS_KAFKA", POSTGRES_ENV, "INFAAS_GATEWAY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("INFAAS_URL", gateway.url)
        monkeypatch.setenv("INFAAS_KEY", str(admin))
        yield Remote(gateway, admin, Shell(tmp_path))


async def test_a_pin_is_set_from_a_machine_where_nothing_runs_and_recorded_as_the_keys(
    remote: Remote, store_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("scale", "pin", "variant", VARIANT, "--min", "2")
    shown = await asyncio.to_thread(remote.shell, *words, "--json")
    assert shown.exit_code == 0, shown.stderr
    made = json.loads(shown.stdout)
    assert (made["name"], made["minimum"], made["maximum"], made["pinned_by"]) == (
        VARIANT, 2, None, f"key:{remote.admin.id}"
    )  # fmt: skip
    [kept] = await list_pins(store_pool)
    assert (kept.minimum, kept.pinned_by) == (2, f"key:{remote.admin.id}")
    [act] = await list_acts(store_pool)
    assert (act.verb, act.actor, act.origin) == ("pin", f"key:{remote.admin.id}", "http 127.0.0.1")
    again = await asyncio.to_thread(remote.shell, *words)
    assert (again.exit_code, again.stderr) == (0, f"variant {VARIANT}: at least 2\n")
    monkeypatch.delenv("INFAAS_KEY")
    nobody = await asyncio.to_thread(remote.shell, *words)
    assert (nobody.exit_code, "INFAAS_KEY" in nobody.stderr) == (2, True)
    query = await new_key(store_pool)
    monkeypatch.setenv("INFAAS_KEY", str(query))
    stranger = await asyncio.to_thread(remote.shell, *words)
    assert (stranger.exit_code, "takes the role admin, and yours is query" in stranger.stderr) == (2, True)


async def test_what_cannot_be_done_has_the_status_that_says_why(remote: Remote) -> None:
    ask, admin = remote.gateway.ask, remote.admin
    assert (await ask(admin, PIN, "PUT", json={"minimum": 3, "maximum": 2}))[0] == 400
    assert (await ask(admin, PIN, "PUT", json={"minimun": 3}))[0] == 400
    assert (await ask(admin, "/v1/scale/pins/task/none", "PUT", json={"minimum": 3}))[0] == 404
    assert (await ask(admin, "/v1/scale/pins/thing/none", "PUT", json={"minimum": 3}))[0] == 400
    form = {"Content-Type": "text/plain"}
    assert (await ask(admin, PIN, "PUT", json=None, data=b'{"minimum": 3}', headers=form))[0] == 415


async def test_no_page_of_others_administrates(remote: Remote) -> None:
    asked = {"json": {"minimum": 1}}
    for origin, status in (("http://evil.example", 403), ("null", 403), (remote.gateway.url, 200)):
        found = await remote.gateway.ask(remote.admin, PIN, "PUT", headers={"Origin": origin}, **asked)
        assert found[0] == status
