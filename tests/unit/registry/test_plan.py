"""Tests of the plan: variants to make, and reasons against others."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from registry.pipeline.source_format import SourceFormat
from registry.plan import dry_run, explain_recipes, plan_variants
from registry.recipes import RECIPES, GeneratorKind
from registry.register import step_count
from registry.request import Registration
from runtimes import device
from runtimes.protocol import Availability
from schemas.errors import InvalidRequest, OperatorError
from schemas.hardware import Hardware

MakeModel = Callable[..., Path]


def _request(file: Path = Path("model.onnx"), **changes: Any) -> Registration:
    return Registration(architecture="a", task="t", file=file, **changes)


def _labels(registration: Registration, form: SourceFormat = SourceFormat.ONNX) -> list[str]:
    return [planned.row.name.split(".")[1] for planned in plan_variants(registration, form)]


def test_plan_variants_includes_sources_of_variants() -> None:
    assert _labels(_request(variants=("openvino-int8",))) == ["onnx-fp32", "onnx-int8static", "openvino-int8"]
    planned = plan_variants(_request(variants=("openvino-int8",)), SourceFormat.ONNX)
    assert [one.source for one in planned] == ["a.onnx-fp32.cpu", "a.onnx-fp32.cpu", "a.onnx-int8static.cpu"]
    assert [one.asked_for for one in planned] == [False, False, True]


def test_plan_variants_starts_with_registered_file() -> None:
    assert _labels(_request(variants=("onnx-int8dyn",))) == ["onnx-fp32", "onnx-int8dyn"]


@pytest.mark.parametrize(
    ("flags", "made"),
    [
        ("avx2", set[str]()),
        ("avx2 avx512_bf16", {"openvino-bf16"}),
        ("amx_bf16 avx512_fp16", {"openvino-bf16", "openvino-fp16"}),
    ],
)
def test_plan_variants_follows_cpu_flags_for_precisions(
    flags: str, made: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags\t\t: {flags}\n")
    monkeypatch.setattr(device, "_CPUINFO", cpuinfo)
    found = set(_labels(_request()))
    assert {"openvino-fp32", "openvino-int8", "onnx-int8dyn", "onnx-int8static"} <= found
    assert found & {"openvino-bf16", "openvino-fp16", "onnx-fp16"} == made


def test_plan_variants_fails_without_runtime_for_hardware() -> None:
    with pytest.raises(OperatorError, match="no runtime for such a file supports it"):
        plan_variants(_request(hardware=Hardware.INTEL_GPU), SourceFormat.EXPORTED_PROGRAM)


@pytest.mark.parametrize("form", list(SourceFormat))
def test_explain_recipes_covers_every_recipe_and_hardware(form: SourceFormat) -> None:
    verdicts = explain_recipes(_request(), form, tuple(Hardware), None)
    assert [(verdict.label, verdict.hardware) for verdict in verdicts] == [
        (recipe.label, hardware) for recipe in RECIPES[form] for hardware in Hardware if hardware in recipe.hardware
    ]


def test_recipes_follow_their_sources() -> None:
    for recipes in RECIPES.values():
        assert recipes[0].generator is GeneratorKind.AS_IS
        assert recipes[0].source is None
        for index, recipe in enumerate(recipes):
            assert recipe.source is None or recipe.source in {one.label for one in recipes[:index]}


def _reasons(verdicts: list[Any]) -> dict[tuple[str, str], str]:
    return {(verdict.label, verdict.hardware): verdict.reason for verdict in verdicts}


def _with_cores(monkeypatch: pytest.MonkeyPatch, there: int) -> None:
    monkeypatch.setattr("registry.plan.usable_cores", lambda: there)


def test_wide_variants_reuse_source_with_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_cores(monkeypatch, 4)
    planned = plan_variants(_request(variants=("openvino-fp32", "onnx-int8dyn"), cores=(4, 2)), SourceFormat.ONNX)
    wide = {one.row.name: one for one in planned if one.is_wide}
    names = [f"a.{label}.cpu{n}" for n in (2, 4) for label in ("onnx-fp32", "onnx-int8dyn", "openvino-fp32")]
    assert list(wide) == names
    one = wide["a.onnx-int8dyn.cpu4"]
    assert (one.source, one.generator, one.threads, one.row.hardware, one.asked_for) == (
        "a.onnx-int8dyn.cpu", GeneratorKind.AS_IS, 4, "cpu", True,
    )  # fmt: skip
    assert {one.threads for one in planned if not one.is_wide} == {1}


def test_wide_variants_exclude_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's thread count is global to the process, so a wide variant would change other models on the worker."""
    _with_cores(monkeypatch, 2)
    monkeypatch.setattr("registry.plan.find_runtime", _anywhere)
    planned = plan_variants(_request(cores=(2,)), SourceFormat.EXPORTED_PROGRAM)
    assert {one.row.runtime for one in planned if one.is_wide} <= {"onnx", "openvino"}
    assert any(one.row.runtime == "torch-eager" for one in planned)


def _anywhere(_name: str) -> "_Anywhere":
    return _Anywhere()


class _Anywhere:
    def availability(self, _hardware: str) -> Availability:
        return Availability(available=True)


def test_plan_variants_refuses_more_cores_than_available(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_cores(monkeypatch, 2)
    with pytest.raises(OperatorError, match="--cores 4: this machine has only 2"):
        plan_variants(_request(cores=(4,)), SourceFormat.ONNX)
    with pytest.raises(OperatorError, match="--threads 4: this machine has only 2"):
        plan_variants(_request(threads=4), SourceFormat.ONNX)
    with pytest.raises(InvalidRequest, match="more than 2, for which every variant"):
        _request(threads=2, cores=(2,), accuracy=0.9).check()


def test_dry_run_explains_omitted_variants(make_model: MakeModel, tmp_path: Path) -> None:
    reasons = _reasons(dry_run(_request(make_model())))
    assert reasons["onnx-fp32", "cpu"] == reasons["openvino-fp32", "cpu"] == reasons["onnx-int8dyn", "cpu"] == ""
    assert "converts FP16" in reasons["onnx-fp16", "cpu"]
    assert "inputs to calibrate" in reasons["onnx-int8static", "cpu"]
    assert reasons["openvino-int8", "cpu"].startswith("it is made from onnx-int8static: no inputs")
    assert reasons["tensorrt-fp16", "cuda"]
    reasons = _reasons(dry_run(_request(make_model(), validation=tmp_path / "data.npz")))
    assert reasons["openvino-int8", "cpu"] == ""
    relu = make_model("relu.onnx", nodes=[helper.make_node("Relu", ["x"], ["scores"])], scores=["batch", 4])
    assert "no MatMul or Gemm to quantise" in _reasons(dry_run(_request(relu)))["onnx-int8dyn", "cpu"]


def test_dry_run_without_onnx_names_package(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(OperatorError, match=r"infaas\[cpu\]"):
        dry_run(_request(model))


def test_dry_run_refuses_damaged_file(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"\x08\x09" + b"\xff" * 40)
    with pytest.raises(InvalidRequest, match="damaged"):
        dry_run(_request(damaged))


def test_explain_recipes_excludes_openvino_for_tree_ensembles() -> None:
    operators = {"TreeEnsembleClassifier", "Cast"}
    verdicts = explain_recipes(_request(), SourceFormat.ONNX, (Hardware.CPU,), operators)
    said = {verdict.label: verdict.reason for verdict in verdicts}
    assert said["openvino-fp32"] == "openvino has no operator TreeEnsembleClassifier, which the model needs"
    assert said["onnx-fp32"] == ""


async def test_step_count_includes_sources_of_variants(make_model: Callable[..., Path]) -> None:
    request = Registration(architecture="a", task="b", file=make_model(), variants=("onnx-int8dyn",))
    assert await step_count(request) == 3
