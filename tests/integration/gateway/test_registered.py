"""Tests of the catalog over the admin API: visible to tenants with access, changed by the owner alone."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from admin.access import ACCESS
from admin.api import Endpoint
from admin.catalog import CATALOG
from admin.removals import REMOVALS
from admin.versions import VERSIONS
from broker.kafka.settings import KafkaSettings
from process.security.api_keys import ApiKey
from schemas.access import Access, Role, Visibility
from schemas.rows.catalog import VariantState
from schemas.status import InstanceState
from schemas.versions import VersionEvent, VersionEventKind
from store.audit import list_acts
from store.placement import put_instances, register_worker, report_instance_state
from store.pool import Pool
from store.registry import put_architecture, put_variant
from store.rollouts import add_event, begin_rollout, get_rollout
from store.settings import ENV as POSTGRES_ENV
from store.tenants import get_access, set_access
from tests.example_rows import a_profile, a_variant, a_worker, an_architecture, an_instance, register
from tests.integration.gateway.test_authentication import Guarded, guarded, new_key
from tests.store_queries import delete_task
from tests.unit.infaas.shell import Shell
from tests.waiting import read_until

PUBLIC, SHARED, PRIVATE = "opal.onnx-fp32.cpu", "lazuli.onnx-fp32.cpu", "onyx.onnx-fp32.cpu"
HIDDEN = ("vault", "onyx", "onyx-v2", "onyx@2", PRIVATE, "onyx-v2.onnx-fp32.cpu", "topaz", "topaz.onnx-fp32.cpu")
"""Names that only acme sees."""
FILE = "fe" * 32
"""SHA-256 of a model's source file."""
TABLE: dict[str, Endpoint[Any, Any]] = {one.name: one for one in (*CATALOG, *VERSIONS, *REMOVALS, *ACCESS)}
BODIES: dict[str, Any] = {"models.rollout": {"share": 0.5}, "access.set": {"visibility": "public"}}
"""Request bodies of the endpoints that need more than a name."""


class Doors(NamedTuple):
    """Two gateways; keys of the owner (two), a tenant it shares with, another tenant, an administrator."""

    gateway: Guarded
    second: Guarded
    reader: ApiKey
    owner: ApiKey
    friend: ApiKey
    stranger: ApiKey
    admin: ApiKey

    async def told(self, key: ApiKey, what: str, gateway: Guarded | None = None, /, **asked: Any) -> tuple[int, Any]:
        """Call an endpoint; return status and content."""
        endpoint = TABLE[what]
        path = endpoint.path.format(**{field: asked.pop(field) for field in endpoint.in_path})
        sent: dict[str, Any] = {"json": asked} if endpoint.has_body else {"json": None, "params": asked}
        status, _, content = await (gateway or self.gateway).ask(key, path, endpoint.method, **sent)
        return status, content


async def fill(pool: Pool) -> None:
    """Register a public task with models public, private to acme and shared by it, and a task private to acme."""
    await register(pool, PUBLIC, PRIVATE, SHARED)
    await register(pool, "topaz.onnx-fp32.cpu", task="vault")
    for name, model, version in (("onyx-v2", "onyx", 2), ("onyx-v3", "onyx", 3), ("lazuli-v2", "lazuli", 2)):
        await put_architecture(pool, replace(an_architecture(name), model=model, version=version, source=FILE))
        await put_variant(pool, a_variant(f"{name}.onnx-fp32.cpu"), a_profile(f"{name}.onnx-fp32.cpu", accuracy=0.8))
    refused = a_variant("lazuli.onnx-int8.cpu", state=VariantState.REFUSED)
    await put_variant(pool, replace(refused, reason="differs by much"))
    for model in ("onyx", "lazuli"):
        await begin_rollout(pool, model, 1)
        kind = VersionEventKind.REGISTERED
        await add_event(pool, VersionEvent(model=model, version=2, kind=kind, detail=f"file {FILE}", by="key:boss"))
    for name in ("onyx", "vault"):
        await set_access(pool, name, Access(owner="acme", visibility=Visibility.PRIVATE))
    friends = frozenset({"globex", "hooli"})
    await set_access(pool, "lazuli", Access(owner="acme", visibility=Visibility.SHARED, shared_with=friends))
    await register_worker(pool, a_worker("cpu-0"))
    await put_instances(pool, [an_instance(SHARED)])
    await report_instance_state(pool, "cpu-0", SHARED, InstanceState.FAILED, "no room at /srv/path")


@pytest.fixture
async def doors(kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path) -> AsyncGenerator[Doors]:
    await fill(store_pool)
    tenants = (("acme", Role.QUERY), *((tenant, Role.PUBLISH) for tenant in ("acme", "globex", "umbrella")))
    reader, owner, friend, stranger = [await new_key(store_pool, tenant, role) for tenant, role in tenants]
    admin = await new_key(store_pool, None, Role.ADMIN)
    async with guarded(kafka, database, gateways=2, home=tmp_path) as (first, second):
        yield Doors(first, second, reader, owner, friend, stranger, admin)


async def test_catalog_lists_only_usable_models(doors: Doors) -> None:
    everything = {"opal", "onyx", "onyx-v2", "onyx-v3", "lazuli", "lazuli-v2", "topaz"}
    told_of_files, told_of_acme = (FILE, "ab" * 32, "differs by much", "boss"), ("hooli", "onyx", "vault", "topaz")
    told_of_workers = ("cpu-0", "/srv/path")
    for key, models, hidden in (
        (doors.stranger, {"opal"}, (*told_of_files, *told_of_acme, *told_of_workers, "lazuli", "acme", "globex")),
        (doors.friend, {"opal", "lazuli", "lazuli-v2"}, (*told_of_files, *told_of_acme, *told_of_workers)),
        (doors.reader, everything, told_of_workers),
        (doors.owner, everything, told_of_workers),
        (doors.admin, everything, ()),
    ):
        told = [await doors.told(key, name) for name in ("tasks.list", "models.list", "variants.list")]
        (_, tasks), (_, listed), (_, variants) = told
        assert {row["name"] for row in tasks} == ({"digits", "vault"} if "topaz" in models else {"digits"})
        assert {row["name"] for row in listed} == models
        assert {row["variant"]["architecture"] for row in variants} == models
        told += [await doors.told(key, "models.list", task=task) for task in ("digits", "vault")]
        told += [await doors.told(key, "tasks.compare", task=task) for task in ("digits", "vault")]
        told += [await doors.told(key, "variants.profile", variant=v) for v in (PUBLIC, SHARED, PRIVATE)]
        told += [await doors.told(key, "models.history", model=m) for m in ("opal", "lazuli", "onyx")]
        told += [await doors.told(key, "access.show", name=n) for n in ("digits", "vault", "opal", "lazuli", "onyx")]
        seen = json.dumps([content for status, content in told if status == 200])
        assert [word for word in hidden if word in seen] == []
        assert {status for status, _ in told} == ({200} if models == everything else {200, 404})
        if key is doors.owner:
            assert all(word in seen for word in (*told_of_files, *told_of_acme))
        if key is doors.admin:
            assert all(word in seen for word in told_of_workers)


async def test_catalog_limits_key_to_its_tasks(doors: Doors, store_pool: Pool) -> None:
    some = await new_key(store_pool, tasks=["vault"])
    await read_until(lambda: doors.told(some, "tasks.list"), lambda told: told[0] == 200)
    assert [row["name"] for row in (await doors.told(some, "models.list"))[1]] == ["topaz"]
    for name, asked in (("models.history", {"model": "opal"}), ("access.show", {"name": "digits"})):
        assert (await doors.told(some, name, **asked))[0] == 404


async def test_hidden_names_answer_as_absent(doors: Doors) -> None:
    """Every endpoint answers a hidden name in the same words as an absent one."""
    for name, endpoint in TABLE.items():
        place = next(iter(endpoint.in_path or endpoint.request.__struct_fields__), "")
        for hidden in HIDDEN if place else ():
            absent = hidden.replace("onyx", "xxxx").replace("topaz", "xxxxx").replace("vault", "xxxxx")
            there, missing = [
                await doors.told(doors.stranger, name, **{place: one}, **BODIES.get(name, {}))
                for one in (hidden, absent)
            ]
            assert json.dumps(there).replace(hidden, "...") == json.dumps(missing).replace(absent, "...")
            assert there[0] in ((200,) if name.endswith(".list") else (400, 404)), (name, hidden)
    assert await doors.told(doors.stranger, "variants.list", task="vault") == (200, [])


async def test_only_owner_changes_model(doors: Doors, store_pool: Pool) -> None:
    changes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("models.rollout", {"share": 0.25}),
        ("models.rollback", {}),
        ("access.set", {"visibility": "private"}),
    )
    for name, asked in changes:
        place = TABLE[name].in_path[0]
        for model, key, words in (
            ("lazuli", doors.friend, "lazuli belongs to another tenant"),
            ("opal", doors.owner, "opal belongs to another tenant"),
            ("lazuli", doors.reader, "requires the role publish"),
        ):
            status, told = await doors.told(key, name, **{place: model}, **asked)
            assert (status, words in told["error"]) == (403, True), (name, model, told)
        assert (await doors.told(doors.stranger, name, **{place: "lazuli"}, **asked))[0] == 404
    assert await list_acts(store_pool) == []
    for name, asked in changes:
        status, told = await doors.told(doors.owner, name, **{TABLE[name].in_path[0]: "lazuli"}, **asked)
        assert status == 200, told
    assert [(act.verb, act.actor) for act in await list_acts(store_pool)] == [
        (verb, f"key:{doors.owner.id}") for verb in ("set-access", "rollback", "rollout")
    ]
    assert (await doors.told(doors.friend, "models.history", model="lazuli"))[0] == 404


async def test_owner_cannot_give_model_to_another_tenant(doors: Doors, store_pool: Pool) -> None:
    status, told = await doors.told(doors.owner, "access.set", name="onyx", owner="globex", visibility="public")
    assert (status, "only the role admin" in told["error"]) == (403, True)
    assert (await get_access(store_pool, "onyx")).owner == "acme"
    await set_access(store_pool, "topaz", Access(owner="acme", visibility=Visibility.PRIVATE))
    [first, *_] = (await doors.told(doors.owner, "access.set", name="topaz", visibility="public"))[1]
    assert first["access"] == {"owner": "acme", "visibility": "public", "shared_with": []}
    status, _ = await doors.told(doors.admin, "access.set", name="onyx", owner="globex", visibility="private")
    assert (status, (await get_access(store_pool, "onyx")).owner) == (200, "globex")
    assert (await doors.told(doors.owner, "models.history", model="onyx"))[0] == 404


async def test_owner_cannot_widen_access_on_foreign_task(doors: Doors) -> None:
    """As at registration, only an administrator opens the model to other tenants; the owner may narrow its access."""
    public, shared = {"visibility": "public"}, {"visibility": "shared", "shared_with": ["globex"]}
    for wider in (public, shared):
        status, told = await doors.told(doors.owner, "access.set", name="onyx", **wider)
        assert (status, "task digits belongs to another tenant" in str(told)) == (403, True), told
    assert (await doors.told(doors.stranger, "models.history", model="onyx"))[0] == 404
    keys_and_wishes = ((doors.admin, public), (doors.owner, public), (doors.owner, shared), (doors.owner, public))
    told = [await doors.told(key, "access.set", name="onyx", **wish) for key, wish in keys_and_wishes]
    assert [status for status, _ in told] == [200, 200, 200, 403]


async def test_concurrent_rollouts_conflict(doors: Doors, store_pool: Pool) -> None:
    for _ in range(3):
        told = await asyncio.gather(
            doors.told(doors.owner, "models.rollout", doors.gateway, model="onyx", version=2, share=0.1),
            doors.told(doors.admin, "models.rollout", doors.second, model="onyx", version=3, share=0.2),
        )
        assert sorted(status for status, _ in told) == [200, 409], told
        [refused] = [content["error"] for status, content in told if status == 409]
        assert "is under trial" in refused or "were changed meanwhile" in refused
        rollout = await get_rollout(store_pool, "onyx")
        assert rollout is not None
        assert (rollout.candidate, rollout.share) in ((2, 0.1), (3, 0.2))
        status, back = await doors.told(doors.owner, "models.rollback", doors.second, model="onyx")
        assert (status, back["history"]["rollout"]["candidate"]) == (200, None)


SHOWN = (
    ("tasks",), ("models",), ("models", "--task", "vault"), ("variants",), ("variants", "--task", "digits"),
    ("profile", PRIVATE), ("history", "onyx"), ("rollout", "onyx"), ("access", "show", "lazuli"),
    ("rollout", "onyx@2", "--canary", "5%"), ("rollback", "onyx"), ("rollout", "onyx@2", "--finish"),
    ("rollback", "onyx"), ("access", "set", "onyx", "--share-with", "globex"), ("history", "none"),
    ("profile", "none.onnx-fp32.cpu"), ("rollout", "opal", "--finish"), ("access", "set", "opal", "--private"),
)  # fmt: skip
FAILING = ("none", "none.onnx-fp32.cpu", "opal")
"""Names in the commands that must fail."""


async def test_catalog_commands_print_same_over_http_and_postgres(
    doors: Doors, database: str, store_pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell, seen = Shell(tmp_path), list[list[tuple[tuple[str, ...], int, list[str]]]]()
    changing = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+Z?|key:\w+|[\w-]+@[\w.-]+")
    monkeypatch.setenv("INFAAS_KEY", str(doors.admin))
    for variable, value in ((POSTGRES_ENV, database), ("INFAAS_URL", doors.gateway.url)):
        with monkeypatch.context() as environment:
            environment.setenv(variable, value)
            commands = [*SHOWN, *((*words, "--json") for words in SHOWN), ("variants", "plot", "digits")]
            shown = [(words, await asyncio.to_thread(shell, *words)) for words in commands]
        for task in ("digits", "vault"):
            await delete_task(store_pool, task)
        await fill(store_pool)
        seen.append([(w, r.exit_code, changing.sub("", r.stdout + r.stderr).split()) for w, r in shown])
    for here, there in zip(*seen, strict=True):
        assert here == there
    failed = [words for words, code, _ in seen[0] if code]
    assert failed == [words for words, *_ in seen[0] if set(FAILING) & {*words}]
