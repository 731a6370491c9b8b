"""Tests of registration end to end: real files, processes, Postgres and broker."""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import onnx
import pytest
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from broker.kafka.client import open_admin
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_variant_topics
from broker.lag.reader import LagReader
from registry.artifacts import ArtifactStore
from registry.catalog_writer import CatalogWriter
from registry.register import register
from registry.removal.unused_files import ArtifactTransaction
from registry.request import Registration
from registry.step_runner import LocalSteps
from registry.topics import ensure_registered_topics, first_partitions, grow_variant_topics
from schemas.access import Access, Visibility
from schemas.errors import InfaasError, InvalidRequest, OperatorError
from schemas.rows.catalog import AccuracySource, Profile, TensorSpec, Variant, VariantState
from schemas.versions import VersionEventKind
from store.catalog import load_catalog
from store.pool import Pool
from store.registry import (
    get_profile,
    get_task,
    list_architectures,
    list_profiles,
    list_tasks,
    list_variants,
    put_task,
    put_variant,
)
from store.rollouts import list_events
from store.tenants import list_access
from tests.example_rows import a_task
from tests.full_disk import limited_files
from tests.store_queries import set_variant_state
from workers.serving.model import find_model, load_session

Register = Callable[..., Any]
NAMES = [f"linear.onnx-{precision}.cpu" for precision in ("fp32", "int8dyn", "int8static")]


async def _nothing_registered(pool: Pool, artifacts: ArtifactStore, tmp_path: Path) -> bool:
    rows = [*await list_tasks(pool), *await list_architectures(pool), *await list_variants(pool)]
    return not rows and not list((tmp_path / "artifacts").glob("*"))


@pytest.mark.needs_minutes
async def test_register_measures_variants(
    run: Register, store_pool: Pool, artifacts: ArtifactStore, progress: Any
) -> None:
    variants: list[Variant] = await run()
    assert [variant.name for variant in variants] == NAMES
    assert {variant.state for variant in variants} == {VariantState.READY}
    assert all(artifacts.has(variant.artifact) for variant in variants)
    task = await get_task(store_pool, "kind")
    assert task is not None
    assert task.inputs == (TensorSpec(name="x", datatype="FP32", shape=(-1, 4)),)
    profiles = {profile.variant: profile for profile in await list_profiles(store_pool)}
    assert profiles[NAMES[0]].accuracy == 1.0
    assert all(0.9 < profile.accuracy <= 1.0 for profile in profiles.values())
    assert {profile.accuracy_source for profile in profiles.values()} == {AccuracySource.MEASURED}
    assert {profile.samples for profile in profiles.values()} == {180}
    assert [point.batch for point in profiles[NAMES[0]].latency] == [1, 2, 4]
    done = [(step[0], step[1]) for step in progress.steps]
    assert done == sorted(done)
    assert done[-1] == (4, 4)


@pytest.mark.needs_minutes
async def test_register_makes_all_variants_by_default(run: Register) -> None:
    made = {variant.name: variant for variant in await run(variants=())}
    assert {"linear.openvino-fp32.cpu", "linear.openvino-int8.cpu", *NAMES} <= made.keys()
    assert {variant.state for variant in made.values()} == {VariantState.READY}
    assert made["linear.openvino-fp32.cpu"].artifact == made[NAMES[0]].artifact
    assert made["linear.openvino-int8.cpu"].artifact == made[NAMES[2]].artifact


@pytest.mark.needs_minutes
async def test_multicore_variant_needs_gain(run: Register, store_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = "linear.onnx-fp32.cpu2"
    monkeypatch.setattr("registry.register.LEAST_GAIN", math.inf)
    made = {variant.name: variant for variant in await run(variants=("onnx-fp32",), cores=(2,))}
    assert made[wide].state is VariantState.REFUSED
    assert "on 2 cores it is" in made[wide].reason
    monkeypatch.setattr("registry.register.LEAST_GAIN", 0.0)
    made = {variant.name: variant for variant in await run(variants=("onnx-fp32",), cores=(2,), again=True)}
    profiles = {profile.variant: profile for profile in await list_profiles(store_pool)}
    assert (made[wide].state, made[wide].artifact) == (VariantState.READY, made[NAMES[0]].artifact)
    assert (profiles[wide].threads, profiles[NAMES[0]].threads) == (2, 1)


async def test_registered_variant_loads_with_valid_probe(run: Register, store_pool: Pool, tmp_path: Path) -> None:
    """A worker warms up with inputs that the model accepts: here at least 100 steps along a free dimension."""
    rng = np.random.default_rng(5)
    steps = rng.normal(size=(40, 1, 200)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "kernel"], ["found"], strides=[20]),
            helper.make_node("ReduceMax", ["found"], ["scores"], axes=[2], keepdims=0),
        ],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, "steps"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(rng.normal(size=(3, 1, 100)).astype(np.float32), "kernel")],
    )
    model, validation = tmp_path / "steps.onnx", tmp_path / "steps.npz"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), model)
    np.savez(validation, x=steps, label=rng.integers(0, 3, 40))
    made = await run(file=model, validation=validation, variants=("onnx-int8static",))
    ready = [variant.name for variant in made if variant.state is VariantState.READY]
    assert "linear.onnx-fp32.cpu" in ready
    catalog = await load_catalog(store_pool)
    for name in ready:
        loaded = load_session(find_model(catalog, name, max_batch=4), ArtifactStore(tmp_path / "artifacts"), threads=1)
        assert loaded.session.infer(loaded.probe)["scores"].shape == (1, 3)


async def test_register_again_does_nothing(run: Register, store_pool: Pool, progress: Any) -> None:
    first = await run(variants=("onnx-int8dyn",))
    profiles = await list_profiles(store_pool)
    progress.steps.clear()
    assert await run(variants=("onnx-int8dyn",)) == first
    assert await list_profiles(store_pool) == profiles
    assert [step[2] for step in progress.steps] == ["linear is registered already"]


@pytest.mark.needs_minutes
async def test_remeasuring_replaces_profiles(run: Register, store_pool: Pool) -> None:
    await run(variants=("onnx-int8dyn",))
    before = {profile.variant: profile.created_at for profile in await list_profiles(store_pool)}
    variants = await run(variants=("onnx-int8dyn",), again=True, max_batch=2)
    assert {variant.state for variant in variants} == {VariantState.READY}
    assert {variant.max_batch for variant in variants} == {2}
    after = {profile.variant: profile.created_at for profile in await list_profiles(store_pool)}
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)


async def test_interrupted_registration_resumes(
    run: Register, store_pool: Pool, progress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(_done: int, _total: int, text: str) -> None:
        if text == f"{NAMES[1]}: measuring":
            registration.cancel()

    with monkeypatch.context() as patch:
        patch.setattr(progress, "step", cut_off)
        registration = asyncio.ensure_future(run())
        with pytest.raises(asyncio.CancelledError):
            await registration
    half = {variant.name: variant for variant in await list_variants(store_pool)}
    reference = await get_profile(store_pool, NAMES[0])
    assert half[NAMES[0]].state is VariantState.READY
    assert half[NAMES[1]].state is VariantState.GENERATED
    whole = {variant.name: variant for variant in await run()}
    assert {variant.state for variant in whole.values()} == {VariantState.READY}
    assert whole[NAMES[1]].artifact == half[NAMES[1]].artifact
    assert await get_profile(store_pool, NAMES[0]) == reference


async def test_taken_name_is_refused_before_measuring(run: Register, progress: Any) -> None:
    await run(variants=("onnx-fp32",))
    progress.steps.clear()
    with pytest.raises(OperatorError, match="kind is the name of a task"):
        await run(architecture="kind", task="other")
    with pytest.raises(OperatorError, match="linear is the name of an architecture"):
        await run(architecture="other", task="linear")
    with pytest.raises(InvalidRequest, match="both a task and an architecture"):
        await run(architecture="other", task="other")
    assert progress.steps == []


async def test_name_taken_meanwhile_leaves_no_traces(
    run: Register, store_pool: Pool, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, name = f"late-{uuid4().hex[:8]}", f"taken-{uuid4().hex[:8]}"
    write = CatalogWriter.write_reference

    async def write_late(self: CatalogWriter, *args: Any) -> None:
        await put_task(store_pool, a_task(name))
        await write(self, *args)

    monkeypatch.setattr(CatalogWriter, "write_reference", write_late)
    with pytest.raises(OperatorError, match="architecture name is taken by another kind"):
        await run(architecture=name, task=task, variants=("onnx-fp32",))
    async with open_admin(kafka) as admin:
        assert not [topic for topic in await admin.list_topics() if task in topic or name in topic]
    assert [row.name for row in await list_tasks(store_pool)] == [name]
    assert await list_architectures(store_pool) == []


async def test_architecture_of_another_task_is_refused(run: Register) -> None:
    await run(variants=("onnx-fp32",))
    with pytest.raises(OperatorError, match="belongs to task kind"):
        await run(task="other", variants=("onnx-fp32",))


async def test_second_model_must_match_task_signature(run: Register, make_model: Callable[..., Path]) -> None:
    await run(variants=("onnx-fp32",))
    renamed = make_model("renamed.onnx", output="logits")
    with pytest.raises(InvalidRequest, match="no output 'scores'; it has logits"):
        await run(architecture="renamed", file=renamed)


async def test_inaccurate_variant_is_refused(run: Register, make_model: Callable[..., Path], store_pool: Pool) -> None:
    # One huge weight per channel makes the INT8 step so large that the other weights round to zero.
    weights = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    weights[3] = 1e6
    x = np.random.default_rng(2).normal(size=(200, 4)).astype(np.float32)
    x[:, 3] = 0
    path = make_model("rough.onnx", weights=weights)
    np.savez(path.with_suffix(".npz"), x=x, label=(x @ weights).argmax(axis=1))
    variants = {v.name: v for v in await run(file=path, validation=path.with_suffix(".npz"))}
    assert variants[NAMES[0]].state is VariantState.READY
    assert variants[NAMES[1]].state is VariantState.REFUSED
    assert "its accuracy is" in variants[NAMES[1]].reason
    assert [p.variant for p in await list_profiles(store_pool, state=VariantState.READY)] == [NAMES[0]]


async def test_variant_that_cannot_be_made_names_reason(run: Register, make_model: Callable[..., Path]) -> None:
    labels = ("onnx-int8dyn", "onnx-int8static")
    model = make_model("relu.onnx", nodes=[helper.make_node("Relu", ["x"], ["scores"])], scores=["batch", 4])
    variants = {v.name: v for v in await run(file=model, validation=None, accuracy=0.5, variants=labels)}
    assert variants[NAMES[0]].state is VariantState.READY
    assert variants[NAMES[1]].reason == "the model has no matrix product to quantise"
    assert "calibrate" in variants[NAMES[2]].reason


async def test_declared_accuracy_is_marked(run: Register, store_pool: Pool, make_samples: Callable[..., Path]) -> None:
    apart = make_samples("apart.npz", 100, label=None)
    await run(validation=None, calibration=apart, accuracy=0.8, variants=("onnx-int8dyn",))
    profiles = {profile.variant: profile for profile in await list_profiles(store_pool)}
    assert {profile.accuracy_source for profile in profiles.values()} == {AccuracySource.DECLARED}
    assert profiles[NAMES[0]].accuracy == 0.8
    assert 0.75 <= profiles[NAMES[1]].accuracy <= 0.8
    assert {profile.samples for profile in profiles.values()} == {0}


@pytest.mark.needs_minutes
async def test_lossy_variants_without_inputs_must_be_named(run: Register) -> None:
    """Without inputs to compare outputs on, the loss of accuracy is unknown."""
    declared: dict[str, Any] = {"validation": None, "accuracy": 0.8}
    states = {variant.name: variant.state for variant in await run(**declared, variants=())}
    ready = {name for name, state in states.items() if state is VariantState.READY}
    assert ready == {NAMES[0], "linear.openvino-fp32.cpu"}
    assert {NAMES[1], NAMES[2], "linear.openvino-int8.cpu"} <= states.keys() - ready
    states = {v.name: v.state for v in await run(**declared, variants=("onnx-int8dyn",), again=True)}
    assert states[NAMES[1]] is VariantState.READY


async def test_remeasuring_replaces_declared_accuracy(run: Register, store_pool: Pool) -> None:
    declared: dict[str, Any] = {"validation": None, "variants": ("onnx-fp32",)}
    await run(**declared, accuracy=0.8)
    await run(**declared, accuracy=0.7, again=True)
    profile = await get_profile(store_pool, NAMES[0])
    assert profile is not None
    assert profile.accuracy == 0.7
    assert len(await list_architectures(store_pool)) == 1


class Wrong:
    """Invalid registrations, each with a part of its error message."""

    CASES = (
        ({"validation": None}, "labelled inputs by --validation, or declare"),
        ({"accuracy": 0.9}, "cannot be combined with --validation"),
        ({"validation": None, "accuracy": 1.5}, "between 0 and 1"),
        ({"architecture": "Linear"}, "architecture name 'Linear' is not allowed"),
        ({"task": "a_b"}, "task name 'a_b' is not allowed"),
        ({"hardware": "tpu"}, "unknown hardware 'tpu'"),
        ({"hardware": "neuron"}, "no Inferentia chip"),
        ({"max_batch": 0}, "largest batch must be"),
        ({"partitions": 0}, "at least 1"),
        ({"variants": ("onnx-int4",)}, "no variant 'onnx-int4'"),
        ({"output": "logits"}, "no output 'logits'"),
        ({"file": Path("/nowhere/model.onnx")}, "cannot read"),
        ({"validation": Path("/nowhere/data.npz")}, "cannot read"),
    )


@pytest.mark.parametrize(("changes", "said"), Wrong.CASES)
async def test_invalid_request_registers_nothing(
    run: Register, store_pool: Pool, artifacts: ArtifactStore, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InfaasError, match=said):
        await run(**changes)
    assert await _nothing_registered(store_pool, artifacts, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nodes": [helper.make_node("NoSuchOperator", ["x"], ["scores"])]}, "^linear.onnx is not a valid ONNX model"),
        ({"x": [2, 4], "scores": [1, 3]}, r"has the shape \[200, 4\], the model takes \[-1, 2, 4\]"),
        ({"scores": ["batch", 5]}, "not a valid ONNX model|the model was refused|does not run"),
        ({"weights": np.full((4, 3), np.nan, np.float32)}, "holds NaN"),
        (
            {
                "nodes": [
                    helper.make_node("MatMul", ["x", "w"], ["y"]),
                    helper.make_node("ReduceMean", ["y"], ["m"], axes=[0], keepdims=1),
                    helper.make_node("Sub", ["y", "m"], ["scores"]),
                ]
            },
            "depends on the other inputs",
        ),
        (
            {"nodes": [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Det", ["y"], ["scores"])]},
            "not a valid ONNX model|does not run",
        ),
    ],
)
async def test_invalid_model_registers_nothing(
    run: Register,
    make_model: Callable[..., Path],
    store_pool: Pool,
    artifacts: ArtifactStore,
    tmp_path: Path,
    change: dict[str, Any],
    said: str,
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        await run(file=make_model(**change))
    assert await _nothing_registered(store_pool, artifacts, tmp_path)


async def test_full_disk_registers_nothing(
    run: Register, make_model: Callable[..., Path], store_pool: Pool, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    big = make_model(
        weights=np.zeros((4, 100_000), np.float32),
        scores=["batch", 100_000],
        x=["batch", 4],
        datatype=TensorProto.FLOAT,
    )
    with limited_files(1 << 20), pytest.raises(OperatorError, match="File too large"):
        await run(file=big)
    assert await _nothing_registered(store_pool, artifacts, tmp_path)


async def test_missing_kafka_registers_nothing(
    make_model: Callable[..., Path],
    make_samples: Callable[..., Path],
    store_pool: Pool,
    artifacts: ArtifactStore,
    tmp_path: Path,
    progress: Any,
) -> None:
    request = Registration(architecture="linear", task="kind", file=make_model(), validation=make_samples())
    nobody = KafkaSettings(bootstrap="127.0.0.1:1", request_timeout_ms=1000)
    with pytest.raises(OperatorError, match=r"127\.0\.0\.1:1"):
        await register(request, store_pool, nobody, artifacts, progress)
    assert await _nothing_registered(store_pool, artifacts, tmp_path)


async def test_failed_registration_keeps_artifacts_of_others(
    run: Register,
    make_model: Callable[..., Path],
    make_samples: Callable[..., Path],
    store_pool: Pool,
    artifacts: ArtifactStore,
    progress: Any,
    tmp_path: Path,
) -> None:
    """The same file under another name is the same artifact, and the same data gives the same sample rows."""
    given: dict[str, Any] = {"file": make_model(), "validation": make_samples(), "max_batch": 1}
    await run(**given, variants=("onnx-fp32",))
    kept = {path.name for path in (tmp_path / "artifacts").iterdir()}
    request = Registration(architecture="other", task="others", **given)
    nobody = KafkaSettings(bootstrap="127.0.0.1:1", request_timeout_ms=1000)
    with pytest.raises(OperatorError, match=r"127\.0\.0\.1:1"):
        await register(request, store_pool, nobody, artifacts, progress)
    assert {path.name for path in (tmp_path / "artifacts").iterdir()} == kept


async def test_rollback_keeps_artifacts_used_meanwhile(
    run: Register, make_model: Callable[..., Path], store_pool: Pool, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    """One registration adds the file and fails after a concurrent one has referenced it in a row."""
    file, unused = make_model(), tmp_path / "unused"
    unused.write_bytes(b"unused")
    failing = ArtifactTransaction(artifacts, store_pool)
    brought = [failing.put(file), failing.put(unused)]
    (variant,) = await run(file=file, variants=("onnx-fp32",))
    assert variant.artifact == brought[0]
    await failing.rollback()
    assert [artifacts.has(sha256) for sha256 in brought] == [True, False]


async def test_register_creates_topics_with_partitions(
    kafka: KafkaSettings,
    make_model: Callable[..., Path],
    make_samples: Callable[..., Path],
    store_pool: Pool,
    artifacts: ArtifactStore,
    progress: Any,
) -> None:
    request = Registration(
        architecture="topical",
        task="topical-task",
        file=make_model(),
        validation=make_samples(),
        max_batch=1,
        partitions=3,
        variants=("onnx-fp32",),
    )
    (variant,) = await register(request, store_pool, kafka, artifacts, progress)
    of_task = ["infaas.tasks.topical-task", "infaas.tasks.topical-task.offline", "infaas.results.topical-task"]
    of_variant = ["infaas.variants.topical.onnx-fp32.cpu", "infaas.variants.topical.onnx-fp32.cpu.offline"]
    async with LagReader(kafka) as reader:
        lag = await reader.read({"some-group": of_task + of_variant})
    assert {(one.topic, one.partition) for one in lag.group_partitions} == {
        *((topic, part) for topic in of_task for part in range(3)),
        *((topic, 0) for topic in of_variant),
    }
    # A number of partitions above the topic's is refused, so this proves that the topic has at least as many.
    await ensure_variant_topics(kafka, [(variant.name, variant.partitions)])
    await ensure_registered_topics(store_pool, kafka)


async def test_registering_again_keeps_added_partitions(run: Register, store_pool: Pool, kafka: KafkaSettings) -> None:
    await run(variants=("onnx-fp32",))
    await grow_variant_topics(store_pool, kafka, NAMES[0], 2)
    (again,) = await run(variants=("onnx-fp32",), again=True)
    assert again.partitions == 2
    await ensure_registered_topics(store_pool, kafka)


async def test_variants_begin_with_one_partition_if_topics_can_grow(
    kafka: KafkaSettings, embedded_kafka: KafkaSettings
) -> None:
    assert await first_partitions(kafka, 3) == 1
    assert await first_partitions(embedded_kafka, 3) == 3


@pytest.mark.needs_minutes
async def test_verified_variant_becomes_ready_without_rebuild(run: Register, store_pool: Pool) -> None:
    variants = {variant.name: variant for variant in await run(variants=("onnx-int8dyn",))}
    await set_variant_state(store_pool, NAMES[1], VariantState.VERIFIED)
    await put_variant(store_pool, variants[NAMES[0]])
    again = {variant.name: variant for variant in await run(variants=("onnx-int8dyn",))}
    assert again[NAMES[1]].state is VariantState.READY
    assert again[NAMES[1]].artifact == variants[NAMES[1]].artifact


@pytest.mark.needs_minutes
async def test_overtaken_registration_keeps_what_the_other_made(
    run: Register,
    make_model: Callable[..., Path],
    make_samples: Callable[..., Path],
    store_pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another registration of the same model ends before this one has written anything."""
    given: dict[str, Any] = {"file": make_model(), "validation": make_samples(), "variants": ("onnx-int8dyn",)}
    write_reference, write_ready = CatalogWriter.write_reference, CatalogWriter.write_ready
    kept: list[Profile] = []
    states: list[VariantState] = []

    async def write_late(self: CatalogWriter, *args: Any) -> None:
        monkeypatch.setattr(CatalogWriter, "write_reference", write_reference)
        await run(**given)
        kept.extend(await list_profiles(store_pool))
        monkeypatch.setattr(CatalogWriter, "write_ready", note_states)
        await write_reference(self, *args)

    async def note_states(self: CatalogWriter, *args: Any) -> None:
        states.extend(variant.state for variant in await list_variants(store_pool))
        await write_ready(self, *args)

    monkeypatch.setattr(CatalogWriter, "write_reference", write_late)
    made = await run(**given)
    assert [variant.name for variant in made] == NAMES[:2]
    assert states == [VariantState.READY] * 2, "no query misses a variant while it is made again"
    assert await get_profile(store_pool, NAMES[0]) == kept[0]
    assert [event.kind for event in await list_events(store_pool, "linear")] == [VersionEventKind.REGISTERED]


@pytest.mark.needs_minutes
async def test_ready_variant_is_refused_only_if_measured_again(
    run: Register, store_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another registration of the same model makes the variant ready before this one refuses it."""
    write_refused = CatalogWriter.write_refused

    async def write_late(self: CatalogWriter, variant: Variant, reason: str) -> None:
        profile, *_ = await list_profiles(store_pool)
        await put_variant(
            store_pool, replace(variant, state=VariantState.READY), replace(profile, variant=variant.name)
        )
        await write_refused(self, variant, reason)

    monkeypatch.setattr("registry.register.LEAST_GAIN", math.inf)
    monkeypatch.setattr(CatalogWriter, "write_refused", write_late)
    wide: dict[str, Any] = {"variants": ("onnx-fp32",), "cores": (2,)}
    assert {variant.state for variant in await run(**wide)} == {VariantState.READY}
    _, refused = await run(**wide, again=True)
    assert refused.state is VariantState.REFUSED


async def test_registrations_of_same_model_at_once_both_succeed(
    kafka: KafkaSettings,
    make_model: Callable[..., Path],
    make_samples: Callable[..., Path],
    store_pool: Pool,
    artifacts: ArtifactStore,
    progress: Any,
) -> None:
    request = Registration(
        architecture="linear",
        task="kind",
        file=make_model(),
        validation=make_samples(),
        max_batch=4,
        variants=("onnx-int8dyn", "onnx-int8static"),
    )
    services = (store_pool, kafka, artifacts, progress, LocalSteps())
    both = await asyncio.gather(register(request, *services), register(request, *services))
    assert [[variant.name for variant in made] for made in both] == [NAMES] * 2
    assert {variant.state for variant in await list_variants(store_pool)} == {VariantState.READY}
    assert [event.kind for event in await list_events(store_pool, "linear")] == [VersionEventKind.REGISTERED]


@pytest.mark.needs_minutes
async def test_remeasuring_unfinished_variant_uses_new_max_batch(run: Register, store_pool: Pool) -> None:
    await run(variants=("onnx-int8dyn",))
    await set_variant_state(store_pool, NAMES[1], VariantState.GENERATED)
    variants = await run(variants=("onnx-int8dyn",), again=True, max_batch=2)
    made = {variant.name: (variant.state, variant.max_batch) for variant in variants}
    assert made == dict.fromkeys(NAMES[:2], (VariantState.READY, 2))


async def test_register_sets_access_once(run: Register, store_pool: Pool) -> None:
    """A new task gets the access of its first model. A registration never changes access that exists."""
    private, few = Access(owner="acme", visibility=Visibility.PRIVATE), ("onnx-fp32",)
    await run(access=private, variants=few)
    assert await list_access(store_pool) == {"linear": private, "kind": private}
    await run(access=private, variants=few)
    await run(variants=few)
    with pytest.raises(OperatorError, match=r"linear is private to acme: .*`infaas access set linear`"):
        await run(access=Access(owner="globex"), variants=few)
    with pytest.raises(InvalidRequest, match="set --owner"):
        await run(architecture="other", access=Access(visibility=Visibility.PRIVATE))
