"""Tests of removals over the admin API: access, and completion after failures."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from broker.kafka.settings import KafkaSettings
from broker.producing.closed_topics import close_topics
from process.security.api_keys import ApiKey
from registry.artifacts import ArtifactStore
from registry.removal import unregister
from registry.service import removals
from registry.service.removals import Remover
from schemas.access import ANYONE, Access, Role, Visibility
from schemas.rows.removals import RemovalRequest, RemovalRow, RemovalState
from store.audit import list_acts
from store.catalog import load_catalog
from store.errors import StoreFull
from store.leader import Leadership
from store.pool import Pool
from store.registry import get_task, list_architectures, put_architecture, put_variant
from store.removals import REMOVAL_CLAIMS, STALE_S, get_removal, put_removal
from store.rollouts import begin_rollout, get_rollout
from store.settings import ENV as POSTGRES_ENV
from store.shared_connection import SharedConnection
from store.tenants import set_access
from tests.example_rows import a_profile, a_variant, an_architecture
from tests.integration.gateway.test_authentication import Guarded, guarded, new_key
from tests.integration.registry.test_unregister import CutOff, KilledError, Site
from tests.proxies import entrance
from tests.unit.infaas.shell import Shell
from tests.waiting import read_until

REMOVALS = "/v1/removals"
OVER = (RemovalState.DONE, RemovalState.FAILED)


@pytest.fixture
async def site(store_pool: Pool, database: str, kafka: KafkaSettings, tmp_path: Path) -> Site:
    found = Site(store_pool, database, kafka, ArtifactStore(tmp_path / "artifacts"), tmp_path)
    await found.prepare()
    return found


@asynccontextmanager
async def removing(site: Site, database: str) -> AsyncGenerator[asyncio.Task[None]]:
    """Run a gateway's remover while the context is open."""
    async with SharedConnection(database) as connection:
        remover = Remover(connection, database, site.kafka, site.folder, "")
        task = asyncio.create_task(remover.run())
        try:
            yield task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def ask(gateway: Guarded, key: ApiKey, name: str, **options: Any) -> tuple[int, Any]:
    status, _, content = await gateway.ask(
        key, REMOVALS, json={"name": name, "results_grace_s": 0, "drain_timeout_s": 20, **options}
    )
    return status, content


async def ended(pool: Pool, number: int) -> RemovalRow:
    found = await read_until(partial(get_removal, pool, number), lambda row: row is not None and row.state in OVER)
    assert found is not None
    return found


async def keys_of(pool: Pool) -> tuple[ApiKey, ApiKey, ApiKey, ApiKey]:
    """Return keys of the owner, a tenant it shares with, another tenant, and an administrator."""
    keys = [await new_key(pool, tenant, Role.PUBLISH) for tenant in ("acme", "globex", "umbrella")]
    return keys[0], keys[1], keys[2], await new_key(pool, None, Role.ADMIN)


async def test_removal_requires_owner_and_hides_names(
    site: Site, kafka: KafkaSettings, database: str, store_pool: Pool
) -> None:
    owner, friend, stranger, admin = await keys_of(store_pool)
    model, other = site.models
    shared = Access(owner="acme", visibility=Visibility.SHARED, shared_with=frozenset({"globex"}))
    for name in (site.task, model):
        await set_access(store_pool, name, shared)
    await set_access(store_pool, other, Access(owner="globex", visibility=Visibility.PRIVATE))
    async with guarded(kafka, database, home=site.folder) as (gateway,), removing(site, database):
        for name in (model, site.variants[0], f"{model}@1", site.task):
            absent = name.replace(site.task, "t-xxxxxxxx").replace(model, "a-xxxxxxxx")
            there, missing = [(await ask(gateway, stranger, one)) for one in (name, absent)]
            assert there[0] == missing[0] == 404
            assert there[1]["error"].replace(name, "") == missing[1]["error"].replace(absent, "")
            status, told = await ask(gateway, friend, name)
            assert (status, "belongs to another tenant" in told["error"]) == (403, True), name
        status, told = await ask(gateway, owner, site.task)
        assert (status, "a part of it belongs to another tenant" in told["error"]) == (403, True)
        assert other not in told["error"]
        status, _, told = await gateway.ask(owner, f"/v1/removal-plans/{model}", "GET", json=None)
        assert (status, told["names"]["variants"]) == (200, [site.variants[0]])
        assert await list_acts(store_pool) == []
        assert (await ask(gateway, owner, model, drain_timeout_s=3000))[0] == 400, "others wait meanwhile"
        status, begun = await ask(gateway, owner, model)
        assert (status, begun["name"], begun["state"]) == (200, model, "waiting")
        row = await ended(store_pool, begun["id"])
        assert (row.state, row.error, row.report is not None) == (RemovalState.DONE, "", True)
        place = f"{REMOVALS}/{begun['id']}"
        assert [await gateway.status(key, place, "GET", json=None) for key in (owner, admin)] == [200, 200]
        assert [await gateway.status(key, place, "GET", json=None) for key in (friend, stranger)] == [404, 404]
        [act] = await list_acts(store_pool)
        assert (act.verb, act.subject, act.actor, act.outcome) == ("unregister", model, f"key:{owner.id}", "done")
        assert (await ask(gateway, owner, model))[0] == 404
        assert [row.name for row in await list_architectures(store_pool)] == [other]


async def test_removal_resumes_after_gateway_ends(site: Site, database: str, store_pool: Pool) -> None:
    """One gateway is killed halfway, a second stops while it waits for another removal; a third completes."""
    request = RemovalRequest(name=site.task, results_grace_s=0.0)
    asked = await put_removal(store_pool, request, ANYONE, "key:1", "http")
    again = await put_removal(store_pool, request, ANYONE, "key:1", "http")
    assert again.id == asked.id, "asked twice it is the same"
    taken = await REMOVAL_CLAIMS.claim(store_pool, "one", STALE_S)
    assert taken is not None
    assert await REMOVAL_CLAIMS.claim(store_pool, "one", STALE_S) is None, "whoever lives keeps it"
    with suppress(KilledError, BaseExceptionGroup):
        await site.unregister(site.task, CutOff(3))
    assert site.task not in (await load_catalog(store_pool)).tasks, "it is half gone"
    await store_pool.execute("UPDATE removals SET changed_at = changed_at - interval '1 minute'")
    async with Leadership(database, "unregister"):
        async with removing(site, database):
            waits = await read_until(partial(get_removal, store_pool, asked.id), lambda row: bool(row and row.step))
            assert waits is not None
            assert (waits.attempts, "waiting for another removal" in waits.step) == (2, True)
        left = await get_removal(store_pool, asked.id)
        assert left is not None
        assert left.state is RemovalState.WAITING, "it was given back"
    async with removing(site, database), removing(site, database):
        row = await ended(store_pool, asked.id)
    assert (row.state, row.error, row.attempts) == (RemovalState.DONE, "", 2), "given back counts for nothing"
    assert (row.done, row.step) == (row.total, "")
    assert await get_task(store_pool, site.task) is None


async def test_removal_retries_when_postgres_is_full(
    site: Site, database: str, store_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    outages, succeed = iter(range(12)), unregister.unregister

    async def unregister_at_last(*given: Any) -> Any:
        if next(outages, None) is not None:
            raise StoreFull("all connections are taken")
        return await succeed(*given)

    monkeypatch.setattr(unregister, "unregister", unregister_at_last)
    monkeypatch.setattr(removals, "_AGAIN_S", 0.01)
    asked = await put_removal(store_pool, RemovalRequest(name=site.models[0]), ANYONE, "key:1", "http")
    async with removing(site, database):
        row = await ended(store_pool, asked.id)
    assert (row.state, row.error, row.attempts) == (RemovalState.DONE, "", 1)


async def test_removal_resumes_after_lost_leadership(
    site: Site, database: str, store_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    leads = list[Leadership]()

    class Lead(Leadership):
        async def __aenter__(self) -> Leadership:
            leads.append(self)
            return await super().__aenter__()

    async def cut_off_and_close(*given: Any) -> None:
        if len(leads) == 1:
            await store_pool.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'infaas-leader' AND datname = current_database()"
            )
            await leads[0].lost.wait()
        await close_topics(*given)

    monkeypatch.setattr(unregister, "Leadership", Lead)
    monkeypatch.setattr(unregister, "close_topics", cut_off_and_close)
    asked = await put_removal(store_pool, RemovalRequest(name=site.models[0]), ANYONE, "key:1", "http")
    async with removing(site, database):
        row = await ended(store_pool, asked.id)
    assert (row.state, row.error, row.attempts, len(leads)) == (RemovalState.DONE, "", 1, 2)


async def test_removal_waits_for_kafka(site: Site, kafka: KafkaSettings, database: str, store_pool: Pool) -> None:
    asked = await put_removal(store_pool, RemovalRequest(name=site.models[0]), ANYONE, "key:1", "http")
    async with entrance(kafka) as (way, site.kafka):
        way.open = False
        async with removing(site, database):
            await read_until(
                partial(get_removal, store_pool, asked.id), lambda row: row is not None and "until Kafka" in row.step
            )
            way.open = True
            row = await ended(store_pool, asked.id)
    assert (row.state, row.error, row.attempts) == (RemovalState.DONE, "", 1)


async def test_removal_and_rollback_keep_serving_version(
    site: Site, kafka: KafkaSettings, database: str, store_pool: Pool
) -> None:
    """In either order of the two requests, the serving version stays."""
    *_, admin = await keys_of(store_pool)
    async with guarded(kafka, database, gateways=2, home=site.folder) as (first, second), removing(site, database):
        for model, variant in zip(site.models, site.variants, strict=True):
            version = replace(an_architecture(f"{model}-v2", site.task), model=model, version=2)
            await put_architecture(store_pool, version)
            name = variant.replace(model, f"{model}-v2")
            await put_variant(store_pool, a_variant(name, site.task, partitions=1), a_profile(name))
            await begin_rollout(store_pool, model, 1)
            rollout = f"/v1/models/{model}/rollout"
            assert await first.status(admin, rollout, json={"version": 2, "finish": True}) == 200
            (status, begun), rolled_back = await asyncio.gather(
                ask(first, admin, f"{model}@1"), second.status(admin, f"/v1/models/{model}/rollback", json={})
            )
            gone = status == 200 and (await ended(store_pool, begun["id"])).state is RemovalState.DONE
            now = await get_rollout(store_pool, model)
            assert now is not None
            assert (now.serving, rolled_back) == ((2, 409) if gone else (1, 200))
            there = {row.version for row in await list_architectures(store_pool) if row.model == model}
            assert there == ({2} if gone else {1, 2})


async def test_unregister_prints_same_over_http_and_postgres(
    site: Site, kafka: KafkaSettings, database: str, store_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, admin = await keys_of(store_pool)
    shell, told = Shell(site.folder), list[list[str]]()
    monkeypatch.setenv("INFAAS_KEY", str(admin))
    monkeypatch.setenv("INFAAS_KAFKA", kafka.bootstrap)
    async with guarded(kafka, database, home=site.folder) as (gateway,), removing(site, database):
        for variable, value, model in ((POSTGRES_ENV, database, 0), ("INFAAS_URL", gateway.url, 1)):
            name = site.models[model]
            with monkeypatch.context() as environment:
                environment.setenv(variable, value)
                shown = [
                    await asyncio.to_thread(shell, "unregister", name, *words)
                    for words in (("--dry-run",), ("--results-grace", "0"), ())
                ]
            assert [one.exit_code for one in shown] == [0, 0, 1], [one.stderr for one in shown]
            told.append([" ".join((one.stdout + one.stderr).replace(name, "NAME").split()) for one in shown])
    gone = [re.search(r"NAME was removed.*", done) for _, done, _ in told]
    words = "NAME was removed: 1 variant(s), 2 topic(s), {} file(s); 0 waiting queries were moved back to the task"
    assert [found and found[0] for found in gone] == [words.format(1), words.format(2)], told
    missing = [words.partition("error: ")[2] for *_, words in told]
    assert missing[0] == missing[1] != "", "it is said alike"
    assert [act.outcome for act in await list_acts(store_pool)][::-1] == ["done", "failed", "done"]
