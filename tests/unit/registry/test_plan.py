"""Which variants are made of a model, and why others are not."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from registry.dry_run import dry_run
from registry.pipeline.inspection import SourceFormat
from registry.plan import explain_recipes, plan_variants
from registry.recipes import RECIPES, GeneratorKind
from registry.registration import Registration
from runtimes import device
from runtimes.protocol import Availability
from schemas.errors import InvalidRequest, OperatorError
from schemas.hardware import Hardware

MakeModel = Callable[..., Path]


def _request(file: Path = Path("model.onnx"), **changes: Any) -> Registration:
    return Registration(architecture="a", task="t", file=file, **changes)


def _labels(registration: Registration, form: SourceFormat = SourceFormat.ONNX) -> list[str]:
    return [planned.row.name.split(".")[1] for planned in plan_variants(registration, form)]


def test_what_is_made_includes_what_it_is_made_from() -> None:
    assert _labels(_request(variants=("openvino-int8",))) == ["onnx-fp32", "onnx-int8static", "openvino-int8"]
    planned = plan_variants(_request(variants=("openvino-int8",)), SourceFormat.ONNX)
    assert [one.source for one in planned] == ["a.onnx-fp32.cpu", "a.onnx-fp32.cpu", "a.onnx-int8static.cpu"]
    assert [one.asked_for for one in planned] == [False, False, True]


def test_the_registered_file_is_the_first_and_always_made() -> None:
    assert _labels(_request(variants=("onnx-int8dyn",))) == ["onnx-fp32", "onnx-int8dyn"]


@pytest.mark.parametrize(
    ("flags", "made"),
    [
        ("avx2", set[str]()),
        ("avx2 avx512_bf16", {"openvino-bf16"}),
        ("amx_bf16 avx512_fp16", {"openvino-bf16", "openvino-fp16"}),
    ],
)
def test_a_precision_is_made_where_the_cpu_computes_it(
    flags: str, made: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags\t\t: {flags}\n")
    monkeypatch.setattr(device, "_CPUINFO", cpuinfo)
    found = set(_labels(_request()))
    assert {"openvino-fp32", "openvino-int8", "onnx-int8dyn", "onnx-int8static"} <= found
    assert found & {"openvino-bf16", "openvino-fp16", "onnx-fp16"} == made


def test_on_hardware_that_runs_nothing_of_the_kind_nothing_is_planned() -> None:
    with pytest.raises(OperatorError, match="no runtime that takes such a file runs on it"):
        plan_variants(_request(hardware=Hardware.INTEL_GPU), SourceFormat.EXPORTED_PROGRAM)


@pytest.mark.parametrize("form", list(SourceFormat))
def test_every_kind_of_variant_has_a_verdict_on_all_its_hardware(form: SourceFormat) -> None:
    verdicts = explain_recipes(_request(), form, tuple(Hardware), None)
    assert [(verdict.label, verdict.hardware) for verdict in verdicts] == [
        (recipe.label, hardware) for recipe in RECIPES[form] for hardware in Hardware if hardware in recipe.hardware
    ]


def test_sources_stand_before_what_is_made_from_them() -> None:
    for recipes in RECIPES.values():
        assert recipes[0].generator is GeneratorKind.AS_IS
        assert recipes[0].source is None
        for index, recipe in enumerate(recipes):
            assert recipe.source is None or recipe.source in {one.label for one in recipes[:index]}


def _reasons(verdicts: list[Any]) -> dict[tuple[str, str], str]:
    return {(verdict.label, verdict.hardware): verdict.reason for verdict in verdicts}


def _with_cores(monkeypatch: pytest.MonkeyPatch, there: int) -> None:
    monkeypatch.setattr("registry.plan.usable_cores", lambda: there)


def test_variants_for_more_cores_are_their_source_with_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_of_torch_there_are_no_variants_for_more_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads are the process's: a model beside one for more cores would have as many."""
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


def test_no_variant_is_made_for_more_cores_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_cores(monkeypatch, 2)
    with pytest.raises(OperatorError, match="--cores 4: only 2 are here"):
        plan_variants(_request(cores=(4,)), SourceFormat.ONNX)
    with pytest.raises(OperatorError, match="--threads 4: only 2 are here"):
        plan_variants(_request(threads=4), SourceFormat.ONNX)
    with pytest.raises(InvalidRequest, match="more than the 2 that every variant"):
        _request(threads=2, cores=(2,), accuracy=0.9).check()


def test_a_dry_run_says_why_not(make_model: MakeModel, tmp_path: Path) -> None:
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


def test_a_dry_run_without_onnx_says_what_to_install(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(OperatorError, match=r"infaas\[cpu\]"):
        dry_run(_request(model))


def test_a_dry_run_refuses_what_is_no_model(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"\x08\x09" + b"\xff" * 40)
    with pytest.raises(InvalidRequest, match="damaged"):
        dry_run(_request(damaged))


def test_trees_have_no_variants_of_openvino() -> None:
    """Said before anything is tried, and in words."""
    operators = {"TreeEnsembleClassifier", "Cast"}
    verdicts = explain_recipes(_request(), SourceFormat.ONNX, (Hardware.CPU,), operators)
    said = {verdict.label: verdict.reason for verdict in verdicts}
    assert said["openvino-fp32"] == "openvino has no operator TreeEnsembleClassifier, which the model needs"
    assert said["onnx-fp32"] == ""
