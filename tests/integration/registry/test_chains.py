"""Tests of chains of real models: registered end to end, and loaded as a worker loads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from onnx import helper

from broker.kafka.settings import KafkaSettings
from process.security.access import users_of
from registry.access import change_access, read_sight, write_access
from registry.artifacts import ArtifactStore, sha256_of
from registry.composites.chains import register_chain
from registry.request import ChainRequest, Registration
from registry.samples import save_arrays
from schemas.access import ANYONE, PUBLIC, Access, Principal, Role, Visibility
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import AccuracySource, Task, TensorSpec
from store.catalog import load_catalog
from store.pool import Pool
from store.registry import get_profile, get_task, put_architecture, put_task, put_variant
from store.tenants import get_access, lock_access, set_access
from tests.example_rows import a_profile, a_variant, an_architecture, register
from tests.model_files import CLASSES, FEATURES, WEIGHTS, Quiet
from workers.serving.model import find_model, load_session

NAMES = ("owl", "cat", "dog")
DOUBLE, SURE = "double.onnx-fp32.cpu", "sure.onnx-fp32.cpu"


@pytest.fixture
async def tasks(make_model: Callable[..., Path], store_pool: Pool, artifacts: ArtifactStore, tmp_path: Path) -> None:
    """Register a task `twice`, which doubles its numbers, and a task `kind`, which classifies them."""
    rows = tmp_path / "kept"
    save_arrays(rows, {"x": np.random.default_rng(2).normal(size=(8, FEATURES)).astype(np.float32)})
    twice = make_model(
        "double.onnx",
        nodes=[helper.make_node("Add", ["x", "x"], ["doubled"])],
        output="doubled",
        scores=["batch", FEATURES],
    )
    for task, name, file, given, size, accuracy in (
        ("twice", DOUBLE, twice, "doubled", FEATURES, 0.9),
        ("kind", SURE, make_model("sure.onnx", weights=WEIGHTS), "scores", CLASSES, 0.8),
    ):
        inputs = (TensorSpec(name="x", datatype="FP32", shape=(-1, FEATURES)),)
        outputs = (TensorSpec(name=given, datatype="FP32", shape=(-1, size)),)
        await put_task(
            store_pool, Task(name=task, inputs=inputs, outputs=outputs, measure="f1-macro", classes=NAMES[:size])
        )
        variant = replace(a_variant(name, task), artifact=artifacts.put(file), max_batch=4)
        architecture = replace(an_architecture(variant.architecture, task), sample_rows=artifacts.put(rows))
        await put_architecture(store_pool, replace(architecture, source=sha256_of(file)))
        await put_variant(store_pool, variant, a_profile(name, accuracy=accuracy))


@pytest.fixture
def chain(
    tasks: None, store_pool: Pool, kafka: KafkaSettings, artifacts: ArtifactStore, progress: Quiet
) -> Callable[..., Any]:
    async def chain(**changes: Any) -> list[Any]:
        request = replace(ChainRequest(name="both", tasks=("twice", "kind")), **changes)
        return await register_chain(request, store_pool, kafka, artifacts, progress)

    return chain


async def test_chain_accuracy_is_measured_end_to_end(
    chain: Callable[..., Any], make_samples: Callable[..., Path], store_pool: Pool, artifacts: ArtifactStore
) -> None:
    with np.load(make_samples()) as rows:
        named = make_samples("named.npz", label=np.array(NAMES)[rows["label"]])
    made = await chain(validation=named)
    assert [variant.name for variant in made] == ["both-chain.double-onnx-fp32-sure-onnx-fp32.cpu"]
    task = await get_task(store_pool, "both")
    assert task is not None
    assert ([spec.name for spec in task.inputs], [spec.name for spec in task.outputs]) == (["x"], ["scores"])
    assert (task.measure, task.classes) == ("f1-macro", NAMES), "its answers are those of its last task"
    profile = await get_profile(store_pool, made[0].name)
    assert profile is not None
    assert (profile.accuracy, profile.accuracy_source, profile.samples) == (1.0, AccuracySource.MEASURED, 200)
    assert all(point.mean_s is None for point in profile.latency), "its batches all take as long"
    model = find_model(await load_catalog(store_pool), made[0].name, 4)
    session = load_session(model, artifacts, 1).session
    x = np.random.default_rng(4).normal(size=(9, FEATURES)).astype(np.float32)
    assert np.allclose(session.infer({"x": x})["scores"], 2 * x @ WEIGHTS, rtol=1e-5, atol=1e-5)


async def test_chain_accuracy_without_labels_is_product_of_stages(chain: Callable[..., Any], store_pool: Pool) -> None:
    made = await chain(through=((DOUBLE, SURE),))
    profile = await get_profile(store_pool, made[0].name)
    assert profile is not None
    assert profile.accuracy == pytest.approx(0.9 * 0.8)
    assert profile.accuracy_source is AccuracySource.DECLARED
    assert [one.name for one in await chain()] == [made[0].name], "the same again is the same"


async def test_invalid_chain_is_refused_without_traces(
    chain: Callable[..., Any], store_pool: Pool, tmp_path: Path
) -> None:
    before = {path.name for path in (tmp_path / "artifacts").iterdir()}
    for changes, error, text in (
        ({"tasks": ("kind", "twice")}, InvalidRequest, r"its shape is \[-1, 3\]"),
        ({"tasks": ("twice", "other")}, OperatorError, "there is no task 'other'"),
        ({"feeds": {"kind": {"x": "y"}}}, InvalidRequest, "has no output for the input 'x'"),
        ({"through": ((SURE, SURE),)}, InvalidRequest, "is a variant of task kind and not of twice"),
        ({"name": "sure"}, OperatorError, "the name of an architecture"),
        ({"hardware": "cuda"}, OperatorError, "no variant for cuda"),
    ):
        with pytest.raises(error, match=text):
            await chain(**changes)
    assert {path.name for path in (tmp_path / "artifacts").iterdir()} == before
    assert await get_task(store_pool, "both") is None


async def test_chain_access_is_intersection_of_stages(
    chain: Callable[..., Any], store_pool: Pool, artifacts: ArtifactStore, progress: Quiet
) -> None:
    """Holds from registration on, and after the owner of a stage changes its access."""
    await change(store_pool, artifacts, "double", shared_with("acme", "globex", "initech"))
    await change(store_pool, artifacts, "kind", shared_with("globex", "acme"))
    await chain()
    assert any("tenants need access to all its stages to use it" in note for note in progress.notes)
    for name in ("both", "both-chain"):
        found = await get_access(store_pool, name)
        assert users_of(found) == {"acme", "globex"}, name
    with pytest.raises(InvalidRequest, match="made of parts that are private to"):
        await change(store_pool, artifacts, "both-chain", PUBLIC)
    owner = Principal(name="k1", tenant="acme", roles=frozenset({Role.PUBLISH}))
    with pytest.raises(
        InvalidRequest, match="made of parts that some of these tenants may not use: it cannot be public"
    ) as refused:
        await change(store_pool, artifacts, "both-chain", Access(owner="acme"), owner)
    assert "initech" not in str(refused.value), "with whom others share is not told"
    private = Access(owner="acme", visibility=Visibility.PRIVATE)
    changed = await change(store_pool, artifacts, "double", private)
    assert [*changed] == ["double", "both-chain"]
    assert users_of(await get_access(store_pool, "both-chain")) == {"acme"}
    await change(store_pool, artifacts, "double", PUBLIC)
    assert users_of(await get_access(store_pool, "both-chain")) == {"acme"}, "nobody widens it by the way"
    await chain()
    assert users_of(await get_access(store_pool, "both-chain")) == {"acme"}


@pytest.mark.parametrize("said", [PUBLIC, Access(owner="acme")])
async def test_narrower_version_narrows_chains_of_model(
    chain: Callable[..., Any], store_pool: Pool, artifacts: ArtifactStore, said: Access
) -> None:
    """A new version narrows the chain in the same way as a change of the model's access."""
    await change(store_pool, artifacts, "double", said)
    await chain()
    await register(store_pool, "hidden.onnx-fp32.cpu")
    await set_access(store_pool, "hidden", Access(owner="acme", visibility=Visibility.PRIVATE))
    version = Registration(
        file=Path("double.json"), task="twice", architecture="double", accuracy=0.9, made_of=("hidden",)
    )
    async with store_pool.transaction() as session:
        await write_access(session, artifacts, version, "double", None)
    for name in ("double", "both-chain"):
        assert users_of(await get_access(store_pool, name)) == {"acme"}, name
    assert users_of(await get_access(store_pool, "both")) is None, "a task is nobody's part"


def shared_with(owner: str, *others: str) -> Access:
    return Access(owner=owner, visibility=Visibility.SHARED, shared_with=frozenset(others))


async def change(
    pool: Pool, artifacts: ArtifactStore, name: str, access: Access, principal: Principal = ANYONE
) -> dict[str, Access]:
    async with pool.transaction() as session:
        await lock_access(session)
        return await change_access(session, artifacts, name, access, await read_sight(session, principal))
