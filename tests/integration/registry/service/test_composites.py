"""Tests of cascades and chains registered through the admin API: visible stages, and ownership by the publisher."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from broker.kafka.settings import KafkaSettings
from registry.artifact_settings import open_artifacts
from registry.composites.stage_records import StageFinder
from schemas.access import Access, Role, Visibility
from schemas.registrations import CascadeToRegister, RegistrationState
from schemas.rows.catalog import Task, TensorSpec
from store.registry import put_architecture, put_task, put_variant
from store.tenants import get_access, set_access
from tests.example_rows import a_profile, a_variant, an_architecture
from tests.integration.gateway.test_authentication import guarded, new_key
from tests.integration.registry.service.conftest import Bureau
from tests.model_files import CLASSES, FEATURES, WEIGHTS
from tests.unit.infaas.shell import Shell

pytestmark = pytest.mark.needs_minutes

GUESS, SURE, HIDDEN = "guess.onnx-fp32.cpu", "sure.onnx-fp32.cpu", "hidden.onnx-fp32.cpu"
PRIVATE = Access(owner="acme", visibility=Visibility.PRIVATE)


async def fill(bureau: Bureau, make_model: Any) -> None:
    """Register task `kind` (an inaccurate, an accurate and another tenant's variant), and task `final` for chains."""
    noise = np.random.default_rng(1).normal(size=(FEATURES, CLASSES)).astype(np.float32)
    inputs, outputs = (
        (TensorSpec(name=name, datatype="FP32", shape=(-1, size)),) for name, size in (("x", 4), ("scores", 3))
    )
    await put_task(bureau.pool, Task(name="kind", inputs=inputs, outputs=outputs))
    artifacts = open_artifacts("", bureau.home)
    for name, accuracy in ((GUESS, 0.6), (SURE, 0.99), (HIDDEN, 1.0)):
        weights = WEIGHTS + 0.35 * noise if name == GUESS else WEIGHTS
        artifact = artifacts.put(make_model(f"{name}.onnx", weights=weights))
        variant = replace(a_variant(name, "kind"), artifact=artifact, max_batch=4)
        await put_architecture(bureau.pool, replace(an_architecture(variant.architecture, "kind"), source=artifact))
        await put_variant(bureau.pool, variant, a_profile(name, accuracy=accuracy))
    await put_task(bureau.pool, Task(name="final", inputs=(replace(outputs[0], name="x"),), outputs=outputs))
    artifact = artifacts.put(make_model("last.onnx", weights=np.eye(CLASSES, dtype=np.float32), x=["batch", CLASSES]))
    await put_architecture(bureau.pool, replace(an_architecture("last", "final"), source=artifact))
    last = replace(a_variant("last.onnx-fp32.cpu", "final"), artifact=artifact, max_batch=4)
    await put_variant(bureau.pool, last, a_profile(last.name))
    await set_access(bureau.pool, "hidden", Access(owner="globex", visibility=Visibility.PRIVATE))


async def test_publisher_registers_composites_of_visible_variants(
    bureau: Bureau, kafka: KafkaSettings, database: str, make_model: Any, make_samples: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Registers by remote commands and by waiting requests, one of which names a stage that is not visible."""
    await fill(bureau, make_model)
    samples = make_samples(count=900)
    rows = await bureau.upload(samples, "acme")
    shell, words = Shell(tmp_path / "elsewhere"), (f"--validation={samples}", "--json")
    waiting = (
        CascadeToRegister(task="kind", first=GUESS, then=HIDDEN, validation=rows, name="other"),
        CascadeToRegister(task="kind", validation=rows),
    )
    ids = [await bureau.ask(one, "acme", publisher=True) for one in waiting]
    monkeypatch.setenv("INFAAS_KEY", str(await new_key(bureau.pool, "acme", Role.PUBLISH)))
    async with guarded(kafka, database, INFAAS_HOME=bureau.home) as (gateway,), bureau.registrar():
        monkeypatch.setenv("INFAAS_URL", gateway.url)
        shown = [
            await asyncio.to_thread(shell, *command, *words)
            for command in (
                ("cascade", "kind", f"--first={GUESS}", f"--then={SURE}", "--threshold=0.8"),
                ("chain", "pair", "kind", "final", "--feed=final.x=scores"),
                ("cascade", "kind", f"--first={GUESS}", f"--then={HIDDEN}"),
            )
        ]
        hidden, found = [await bureau.ended(one) for one in ids]
    assert [one.exit_code for one in shown] == [0, 0, 1], [one.output for one in shown]
    [cascade], [chain] = (json.loads(one.stdout) for one in shown[:2])
    assert cascade["variant"]["name"] == "guess-or-sure.onnx-fp32-onnx-fp32-t800.cpu"
    assert cascade["profile"]["accuracy_source"] == "measured"
    assert 0 < cascade["calibrated"]["escalated"] < 1
    assert chain["variant"]["name"] == "pair-chain.sure-onnx-fp32-last-onnx-fp32.cpu"
    assert f"there is no variant '{HIDDEN}'" in " ".join(shown[2].stderr.split())
    assert {await get_access(bureau.pool, name) for name in ("guess-or-sure", "pair", "pair-chain")} == {PRIVATE}
    assert hidden.error == f"{HIDDEN} is not registered and ready; `infaas variants --task kind` lists ready variants"
    assert found.state is RegistrationState.DONE
    assert "no cascade beats every single variant of kind" in found.notes
    for publisher, best in (("acme", SURE), ("globex", HIDDEN), (None, HIDDEN)):
        finder = StageFinder(bureau.pool, open_artifacts("", bureau.home), publisher=publisher)
        assert [stage.variant.name for stage in await finder.worth_trying("kind", "cpu")] == [best]
