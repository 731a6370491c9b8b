"""Tests of `infaas catalogue export`."""

import asyncio
from pathlib import Path

from msgspec.structs import replace

from infaas.cli.output import EXIT_SETUP
from schemas.rows.catalog import VariantState
from simulator.catalogue import read_catalogue
from store.placement import register_worker
from store.pool import Pool
from store.registry import put_variant
from tests.example_rows import a_profile, a_variant, a_worker
from tests.unit.infaas.shell import Shell


async def test_catalogue_export_writes_registry(registered: Shell, store_pool: Pool, tmp_path: Path) -> None:
    refused = await asyncio.to_thread(registered, "catalogue", "export")
    assert refused.exit_code == EXIT_SETUP
    assert "no worker runs" in refused.stderr
    for worker in (a_worker("cpu-0"), a_worker("cpu-1")):
        await register_worker(store_pool, worker)
    await put_variant(store_pool, a_variant("mlp.onnx-fp32.cuda"), a_profile("mlp.onnx-fp32.cuda"))
    refused_variant = replace(a_variant("mlp.onnx-int8.cpu"), state=VariantState.REFUSED, reason="for a test")
    await put_variant(store_pool, refused_variant)
    made = await asyncio.to_thread(registered, "catalogue", "export", "--output", str(tmp_path / "ours.json"))
    assert made.exit_code == 0, made.stderr
    assert "left out 1 variants" in made.stderr
    found = read_catalogue(tmp_path / "ours.json")
    variants, profiles = found.rows()
    assert list(variants) == ["cnn.onnx-fp32.cpu", "mlp.onnx-fp32.cpu"]
    assert profiles["mlp.onnx-fp32.cpu"].latency == a_profile().latency
    [hardware] = found.hardware_types()
    expected = a_worker()
    assert (hardware.name, hardware.maximum, hardware.slots) == ("cpu", 2, expected.slots)
    assert (hardware.price_per_hour, hardware.memory_bytes) == (expected.price_per_hour, expected.memory_bytes)
    printed = await asyncio.to_thread(registered, "catalogue", "export")
    assert printed.stdout == (tmp_path / "ours.json").read_text()
