"""Tests of the registration of exported programs, where torch is installed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.kafka.settings import KafkaSettings
from registry.artifacts import ArtifactStore
from registry.pipeline.inspection import read_signature
from registry.pipeline.source_format import SourceFormat
from registry.register import register
from registry.request import Registration
from runtimes.torch.exported_archive import make_safe
from runtimes.torch.program import import_torch
from schemas.rows.catalog import Variant, VariantState
from store.pool import Pool
from store.registry import get_task, list_profiles


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Create a classifier of three classes as `net.pt2`, and `net.npz` with inputs labelled by it."""
    torch: Any = import_torch()
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3)).eval()
    batch = torch.export.Dim("batch", min=1, max=1024)
    exported = torch.export.export(net, (torch.randn(2, 4),), dynamic_shapes=({0: batch},))
    path = tmp_path / "net.pt2"
    torch.export.save(exported, path)
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    with torch.no_grad():
        labels = net(torch.from_numpy(x)).argmax(1).numpy()
    (name,) = exported.graph_signature.user_inputs
    np.savez(path.with_suffix(".npz"), label=labels, allow_pickle=False, **{name: x})
    return path


@pytest.mark.needs_torch
@pytest.mark.timeout(600)
async def test_program_becomes_torch_and_onnx_variants(
    program: Path, store_pool: Pool, kafka: KafkaSettings, tmp_path: Path, progress: Any
) -> None:
    request = Registration(
        architecture="net",
        task="kind",
        file=program,
        validation=program.with_suffix(".npz"),
        max_batch=4,
        variants=("torchcompile-fp32", "onnx-fp32", "onnx-int8static"),
    )
    store = ArtifactStore(tmp_path / "artifacts")
    variants: list[Variant] = await register(request, store_pool, kafka, store, progress)
    states = {variant.name: (variant.state, variant.reason) for variant in variants}
    ready = (VariantState.READY, "")
    assert states["net.torch-fp32.cpu"] == ready
    assert states["net.torchcompile-fp32.cpu"] == ready
    assert states["net.onnx-fp32.cpu"] == ready
    assert states["net.onnx-int8static.cpu"][0] is VariantState.READY
    task = await get_task(store_pool, "kind")
    assert task is not None
    assert task.outputs[0].shape == (-1, 3)
    profiles = {profile.variant: profile for profile in await list_profiles(store_pool)}
    assert profiles["net.torch-fp32.cpu"].accuracy == 1.0
    assert profiles["net.torchcompile-fp32.cpu"].load_s > profiles["net.torch-fp32.cpu"].load_s
    assert await register(request, store_pool, kafka, store, progress) == variants


@pytest.mark.needs_torch
async def test_program_is_compiled_ahead_of_time(
    program: Path, store_pool: Pool, kafka: KafkaSettings, tmp_path: Path, progress: Any
) -> None:
    request = Registration(
        architecture="net", task="kind", file=program, validation=program.with_suffix(".npz"), max_batch=4,
        variants=("torchaot-fp32",),
    )  # fmt: skip
    variants: list[Variant] = await register(request, store_pool, kafka, ArtifactStore(tmp_path / "store"), progress)
    assert {variant.name: (variant.state, variant.reason) for variant in variants} == {
        "net.torch-fp32.cpu": (VariantState.READY, ""),
        "net.torchaot-fp32.cpu": (VariantState.READY, ""),
    }


@pytest.mark.needs_torch
def test_embedding_size_bounds_input(tmp_path: Path) -> None:
    torch: Any = import_torch()

    class Bag(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(11, 3)

        def forward(self, ids: Any) -> Any:
            return self.table(ids).sum(1)

    batch = torch.export.Dim("batch", min=1, max=1024)
    exported = torch.export.export(Bag(), (torch.ones(2, 4, dtype=torch.int64),), dynamic_shapes=({0: batch},))
    torch.export.save(exported, tmp_path / "bag.pt2")
    make_safe(tmp_path / "bag.pt2", tmp_path / "safe")
    signature = read_signature(tmp_path / "safe", SourceFormat.EXPORTED_PROGRAM)
    assert [spec.below for spec in signature.inputs] == [11]
