"""Tests of unregistering: after any interruption, all parts of the object are removed, and nothing else.

No worker or selector runs here. A system test covers queries in flight.
"""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from msgspec.structs import replace

from broker.delivery.consumer import Consumer
from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_task_topics, ensure_variant_topics, partitions_of
from broker.kafka.types import TopicClosed
from broker.producing.closed_topics import close_topics
from broker.producing.producer import Producer
from registry.artifacts import ArtifactStore
from registry.removal.removal_plan import plan_removal
from registry.removal.unregister import unregister
from registry.versions import canary, finished
from schemas import headers as h
from schemas.errors import OperatorError
from schemas.jobs import NewJob
from schemas.rows.catalog import VariantState
from schemas.rows.cluster import Pin, PinKind
from schemas.rows.removals import RegisteredNames, RemovalPlan, RemovalReport, RemovalRequest
from schemas.topics import SELECTOR_GROUP, SHADOWS, offline_variant_topic, task_topic, variant_topic, variant_topics
from schemas.versions import VersionEventKind
from store.builds import get_build, put_build
from store.catalog import load_catalog
from store.errors import StoreConflict
from store.jobs import cancel_jobs, put_jobs
from store.placement import put_instances, register_worker
from store.pool import DatabaseSession, Pool
from store.registry import get_task, get_variant, list_variants, put_architecture, put_task, put_variant
from store.removals import mark_removing
from store.rollouts import begin_rollout, change_rollout, get_rollout
from store.scaling import list_pins, put_pin
from tests.example_rows import a_profile, a_task, a_variant, a_worker, an_architecture, an_instance
from tests.model_files import Quiet

STEPS = 9


class KilledError(Exception):
    """Stands for the end of the process."""


class CutOff(Quiet):
    """Progress sink that raises at a step, which imitates a process killed there."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def step(self, done: int, total: int, text: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise KilledError


class Site:
    """A task with two architectures of one variant each, with topics and files; all names are unique to the test."""

    def __init__(self, pool: Pool, dsn: str, kafka: KafkaSettings, artifacts: ArtifactStore, folder: Path) -> None:
        self.pool, self.dsn, self.kafka, self.artifacts, self.folder = pool, dsn, kafka, artifacts, folder
        self.exchange = ArtifactStore(folder / "exchange")
        unique = uuid4().hex[:8]
        self.task = f"t-{unique}"
        self.models = f"a-{unique}", f"b-{unique}"
        self.variants = tuple(f"{name}.onnx-fp32.cpu" for name in self.models)

    async def prepare(self) -> None:
        await put_task(self.pool, a_task(self.task, partitions=1))
        shared = self.put("shared")
        for model, variant in zip(self.models, self.variants, strict=True):
            source = self.put(model)
            architecture = replace(an_architecture(model, self.task), source=source, sample_rows=shared)
            await put_architecture(self.pool, architecture)
            await put_variant(
                self.pool, replace(a_variant(variant, self.task, partitions=1), artifact=source), a_profile(variant)
            )
        await ensure_task_topics(self.kafka, self.task, 1)
        await ensure_variant_topics(self.kafka, [(variant, 1) for variant in self.variants])

    def put(self, content: str, store: ArtifactStore | None = None) -> str:
        file = self.folder / "file"
        file.write_text(content)
        return (store or self.artifacts).put(file)

    async def plan(self, name: str) -> RemovalPlan:
        return await plan_removal(self.pool, self.artifacts, name)

    async def unregister(self, name: str, sink: Quiet | None = None, *, force: bool = False) -> RemovalReport | None:
        request = RemovalRequest(name=name, force=force, results_grace_s=0.0)
        stores = self.artifacts, self.exchange
        return await unregister(request, self.pool, self.dsn, self.kafka, *stores, sink or Quiet())

    async def topics_left(self, plan: RemovalPlan) -> set[str]:
        return {partition.topic for partition in await partitions_of(self.kafka, plan.topics)}

    def files(self) -> set[str]:
        return {path.name for path in (self.folder / "artifacts").iterdir()}


@pytest.fixture
async def site(store_pool: Pool, database: str, kafka: KafkaSettings, artifacts: ArtifactStore, tmp_path: Path) -> Site:
    found = Site(store_pool, database, kafka, artifacts, tmp_path)
    await found.prepare()
    return found


async def test_unregister_variant_keeps_shared_files(site: Site) -> None:
    first, second = site.variants
    await put_pin(site.pool, Pin(kind=PinKind.VARIANT, name=first, minimum=1))
    with pytest.raises(OperatorError, match=r"is used: it is pinned: variant .*--force"):
        await site.unregister(first)
    plan = await site.plan(first)
    assert plan.topics == variant_topics(first)
    assert plan.files == (), "the architecture was registered from the same file"
    await site.unregister(first, force=True)
    assert await site.topics_left(plan) == set()
    assert [variant.name for variant in await list_variants(site.pool)] == [second]
    assert await list_pins(site.pool) == []
    assert len(site.files()) == 3


async def test_unregister_task_resumes_after_any_step(site: Site) -> None:
    plan = await site.plan(site.task)
    assert len(plan.topics) == 7
    assert len(plan.files) == 3
    taken = list[int]()
    for at in range(STEPS):
        sink = CutOff(at)
        try:
            await site.unregister(site.task, sink)
        except* KilledError:
            taken.append(at)
            if at >= 2:
                assert (await site.plan(site.task)).begun
                assert site.task not in (await load_catalog(site.pool)).tasks
    assert taken == [*range(STEPS)], "each step was the last once"
    await site.unregister(site.task)
    assert await site.topics_left(plan) == set()
    assert await get_task(site.pool, site.task) is None
    assert await list_variants(site.pool) == []
    assert site.files() == set()
    with pytest.raises(OperatorError, match="there is no task"):
        await site.unregister(site.task)


async def test_concurrent_unregister_runs_once(site: Site) -> None:
    reports = await asyncio.gather(site.unregister(site.task), site.unregister(site.task))
    assert sorted(report is None for report in reports) == [False, True]
    await site.prepare()
    assert await get_task(site.pool, site.task) is not None, "its name can be used again"


async def test_unregister_is_refused_while_jobs_wait(site: Site) -> None:
    ids = {"job-of-task": site.task, "job-of-model": site.models[0]}
    await put_jobs(
        site.pool,
        [
            [NewJob(id=job_id, model=model, task=site.task, offline=True, headers={}, request=b"{}")]
            for job_id, model in ids.items()
        ],
    )
    with pytest.raises(OperatorError, match=f"jobs wait for it: 1 of {site.models[0]}, 1 of {site.task}"):
        await site.unregister(site.task)
    with pytest.raises(OperatorError, match=f"jobs wait for it: 1 of {site.models[0]}; use --force"):
        await site.unregister(site.models[0])
    await cancel_jobs(site.pool, ids)
    await site.unregister(site.models[0])


async def test_unregister_deletes_builds_and_their_files(site: Site) -> None:
    source, model = site.put(site.models[0]), site.models[0]
    own, shared = site.put("own rows", site.exchange), site.put("shared rows", site.exchange)
    builds: dict[str, dict[str, object]] = {
        "plan": {"registration": {"task": site.task, "architecture": model}},
        "measure": {"artifact": source, "samples": own, "more": shared},
        "of another": {"artifact": "ab" * 32, "samples": shared},
    }
    for build, step in builds.items():
        await put_build(site.pool, build, "cpu", {"step": step, "run": ""}, 1)
    await site.unregister(site.task)
    assert [build for build in builds if await get_build(site.pool, build) is not None] == ["of another"]
    assert [path.name for path in (site.folder / "exchange").iterdir()] == [shared]


async def test_unregister_returns_waiting_queries_to_task(site: Site) -> None:
    first = site.variants[0]
    async with Producer(site.kafka, "test") as producer:
        for topic in variant_topics(first):
            headers = [(h.ID, topic.encode()), (h.SENT_NS, b"1"), (h.DEADLINE_MS, b"2.0"), (h.TASK, b"t")]
            await producer.send_and_wait(topic, b"v", key=b"k", headers=headers)
            copy = [(h.ID, topic.encode()), (h.REPLY_TO, SHADOWS.encode())]
            await producer.send_and_wait(topic, b"v", key=b"k", headers=copy)
    report = await site.unregister(first)
    assert report is not None
    assert report.moved == 2
    for topic, target in ((variant_topic(first), ""), (offline_variant_topic(first), ".offline")):
        async with Tail(site.kafka, "test", [task_topic(site.task) + target], since_ms=0.0) as tail:
            (record,) = [record async for record in tail.past()]
        assert dict(record.headers) == {h.ID: topic.encode(), h.DEADLINE_MS: b"2.0", h.TASK: b"t"}


async def test_removing_object_accepts_no_registration(site: Site) -> None:
    first, second = site.variants
    async with site.pool.transaction() as session:
        await mark_removing(session, RegisteredNames(None, (site.models[0],), ()))
    removing = await get_variant(site.pool, first)
    assert removing is not None
    assert removing.state is VariantState.REMOVING
    assert {*(await load_catalog(site.pool)).variants} == {second}
    another = first.replace("fp32", "int8")
    for change in (
        put_variant(site.pool, a_variant(first, site.task), a_profile(first)),
        put_variant(site.pool, a_variant(another, site.task), a_profile(another)),
        put_architecture(site.pool, replace(an_architecture(site.models[0], site.task), source="cd" * 32)),
    ):
        with pytest.raises(StoreConflict, match="is being unregistered"):
            await change
    await put_architecture(site.pool, an_architecture("other", site.task))
    async with site.pool.transaction() as session:
        await mark_removing(session, RegisteredNames(site.task, (), ()))
    assert (await load_catalog(site.pool)).removing == {site.task}
    with pytest.raises(StoreConflict, match="is being unregistered"):
        await put_architecture(site.pool, an_architecture("late", site.task))
    with pytest.raises(StoreConflict, match="is being unregistered"):
        await put_task(site.pool, a_task(site.task, partitions=1))


async def test_unregister_sees_concurrent_registration(site: Site) -> None:
    """The later of two transactions waits for the earlier one."""
    late = site.variants[0].replace("fp32", "late")
    async with site.pool.transaction() as registering:
        await put_variant(registering, a_variant(late, site.task, VariantState.VERIFIED))
        marking = asyncio.create_task(mark(site, RegisteredNames(site.task, site.models, site.variants)))
        done, _ = await asyncio.wait({marking}, timeout=0.3)
        assert done == set()
    await marking
    assert {v.state for v in await list_variants(site.pool, task=site.task)} == {VariantState.REMOVING}


async def mark(site: Site, names: RegisteredNames) -> None:
    async with site.pool.transaction() as session:
        await mark_removing(session, names)


async def test_unregister_refuses_serving_version(site: Site) -> None:
    model = site.models[0]
    second = replace(an_architecture(f"{model}-v2", site.task), source="cd" * 32, model=model, version=2)
    await put_architecture(site.pool, second)
    await put_variant(
        site.pool, a_variant(f"{second.name}.onnx-fp32.cpu", site.task), a_profile(f"{second.name}.onnx-fp32.cpu")
    )
    await begin_rollout(site.pool, model, 1)
    await site.pool.execute("UPDATE rollouts SET candidate = 2, share = 0.5 WHERE model = $1", model)
    with pytest.raises(OperatorError, match="is serving"):
        await site.unregister(f"{model}@1", force=True)
    await site.unregister(f"{model}@2")
    rollout = await get_rollout(site.pool, model)
    assert rollout is not None
    assert (rollout.serving, rollout.candidate, rollout.share) == (1, None, 0)
    await site.unregister(model)
    assert [variant.name for variant in await list_variants(site.pool)] == [site.variants[1]]


async def test_unregister_and_rollout_exclude_each_other(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    model = site.models[0]
    second = replace(an_architecture(f"{model}-v2", site.task), source="cd" * 32, model=model, version=2)
    await put_architecture(site.pool, second)
    await begin_rollout(site.pool, model, 1)
    rollout = await get_rollout(site.pool, model)
    assert rollout is not None

    async def mark_too_late(session: DatabaseSession, names: RegisteredNames) -> None:
        await change_rollout(site.pool, rollout, *finished(rollout, 2, VersionEventKind.FINISHED, "ann@here"))
        await mark_removing(session, names)

    with monkeypatch.context() as late:
        late.setattr("registry.removal.unregister.mark_removing", mark_too_late)
        with pytest.raises(OperatorError, match="is serving"):
            await site.unregister(second.name)
    await mark(site, RegisteredNames(None, (model,), ()))
    now = await get_rollout(site.pool, model)
    assert now is not None
    assert now.serving == 2
    with pytest.raises(StoreConflict, match=f"{model} is being unregistered"):
        await change_rollout(site.pool, now, *canary(now, 1, 0.5, "ann@here"))


async def test_unregister_running_variant_needs_force(site: Site) -> None:
    first = site.variants[0]
    await register_worker(site.pool, a_worker())
    await put_instances(site.pool, [an_instance(first)])
    with pytest.raises(OperatorError, match=f"it runs: {first} on cpu-0"):
        await site.unregister(first)
    await site.unregister(first, force=True)


async def test_closed_topic_refuses_all_producers(site: Site) -> None:
    topic = task_topic(site.task)
    async with AIOKafkaProducer(bootstrap_servers=site.kafka.bootstrap) as plain, Producer(site.kafka, "t") as ours:
        await plain.send_and_wait(topic, b"before")
        await ours.send_and_wait(topic, b"before")
        await close_topics(site.kafka, [topic])
        with pytest.raises(MessageSizeTooLargeError):
            await plain.send_and_wait(topic, b"x")
        with pytest.raises(TopicClosed):
            await ours.send_and_wait(topic, b"x")
    async with Tail(site.kafka, "test", [topic], since_ms=0.0) as tail:
        assert [record.value async for record in tail.past()] == [b"before", b"before"]


async def test_unregister_fails_while_queries_are_unanswered(site: Site) -> None:
    async with Producer(site.kafka, "test") as producer:
        await producer.send_and_wait(task_topic(site.task), b"v", headers=[(h.ID, b"1")])
    request = RemovalRequest(name=site.task, drain_timeout_s=1.0)
    with pytest.raises(OperatorError, match="does a selector run"):
        await unregister(request, site.pool, site.dsn, site.kafka, site.artifacts, site.exchange, Quiet())
    assert task_topic(site.task) in await site.topics_left(await site.plan(site.task)), "nothing is lost"


async def test_unregister_ignores_transaction_markers(site: Site) -> None:
    topic = task_topic(site.task)

    async def answer(group: str, of: str) -> None:
        async with Consumer(site.kafka, "test", group=group) as consumer:
            await consumer.assign(of, [0])
            while True:
                for record in await consumer.poll():
                    consumer.done(record)

    async with AIOKafkaProducer(bootstrap_servers=site.kafka.bootstrap, transactional_id=site.task) as producer:
        for end in (producer.commit_transaction, producer.abort_transaction):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"v", headers=[("infaas-id", b"1")])
            await end()
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(answer(SELECTOR_GROUP, topic))
        await site.unregister(site.task)
        reading.cancel()
