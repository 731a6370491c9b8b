"""Tests of `infaas keys` on a database: a key is shown once, listed without its secret, and revoked."""

import asyncio
import json

import pytest

from process.security.api_keys import read_key
from store.api_keys import list_keys
from store.pool import Pool
from tests.unit.infaas.shell import Shell


async def run(shell: Shell, *words: str, code: int = 0) -> str:
    done = await asyncio.to_thread(shell, "keys", *words)
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


async def test_keys_commands_create_list_and_revoke(connected: Shell, store_pool: Pool) -> None:
    printed = await run(connected, "create", "--tenant=acme", "--task=digits", "--per-second=5", "--expires=30d")
    key = read_key(printed.strip())
    assert key is not None
    (row,) = await list_keys(store_pool)
    assert row.secret_hash == key.hash()
    assert key.secret.encode() not in key.hash()
    assert (row.tenant, row.tasks, row.per_second) == ("acme", ["digits"], 5.0)
    made = json.loads(await run(connected, "create", "--role=admin", "--note=for Ada", "--json"))
    listed = await run(connected, "list", "--json")
    assert [one["id"] for one in json.loads(listed)] == [key.id, made["id"]]
    for text in (listed, await run(connected, "list"), await run(connected, "list", "--tenant=acme")):
        assert key.secret not in text
        assert key.hash().hex() not in text
    assert "valid until" in await run(connected, "list", "--tenant=acme")
    assert json.loads(await run(connected, "revoke", key.id, "--json"))["revoked"] == [key.id]
    assert "already revoked or unknown" in await run(connected, "revoke", key.id, code=2)
    assert key.secret not in await run(connected, "revoke", str(key), code=2)
    assert "revoked" in await run(connected, "list")
    acts = json.loads((await asyncio.to_thread(connected, "audit", "--json")).stdout)
    assert {act["verb"] for act in acts} == {"create-key", "revoke-key"}
    assert key.secret not in json.dumps(acts)
    assert [act["outcome"] for act in acts if act["verb"] == "revoke-key"] == ["done", "failed"], (
        "a whole key goes nowhere"
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("create",), 2, "--tenant"),
        (("create", "--tenant=Acme Inc."), 2, "tenant name"),
        (("create", "--tenant=a", "--task=A b"), 2, "task name"),
        (("create", "--tenant=a", "--expires=2001-01-01"), 1, "has passed"),
        (("create", "--tenant=a", "--expires=soon"), 1, "from now on"),
        (("create", "--tenant=a", "--note=a\nb"), 2, "one line"),
    ],
)
async def test_keys_create_refuses_invalid_options(
    connected: Shell, words: tuple[str, ...], code: int, said: str
) -> None:
    assert said in await run(connected, *words, code=code)
