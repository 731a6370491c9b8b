"""Tests of builds: their identity, their JSON form and their outcomes."""

from pathlib import Path

import msgspec
import pytest

from registry.builds.build import Build, BuildOutcome, BuildRequest, with_files
from registry.pipeline.generation import GenerateVariant
from registry.pipeline.isolation import StepCrashed
from registry.pipeline.measurement import MeasureVariant
from registry.recipes import GeneratorKind, NotApplicable
from runtimes.protocol import LoadOptions
from schemas.errors import InvalidRequest, ModelFailed, OperatorError
from schemas.rows.catalog import Processing, Tokenise


def measured(folder: str, threads: int = 1) -> MeasureVariant:
    place = Path(folder)
    options = LoadOptions(precision="fp32", threads=threads)
    around = Processing(before=Tokenise(tokenizer=str(place / "words")))
    return MeasureVariant(
        place / "model", "onnx", "cuda", options, place / "rows", place / "out", around, place / "single"
    )


def build_of(step: MeasureVariant | GenerateVariant, run: str = "") -> Build:
    """Return the build with file names in place of paths; the names stand for content hashes."""
    return Build(step=with_files(step, lambda file: Path(file.name), lambda file: Path(f"to-{file.name}")), run=run)


def test_build_id_is_independent_of_file_locations() -> None:
    assert build_of(measured("/here")).id == build_of(measured("/there")).id
    assert build_of(measured("/here")).id != build_of(measured("/here", threads=2)).id
    assert build_of(measured("/here")).id != build_of(measured("/here"), run="again").id


@pytest.mark.parametrize(
    "step",
    [
        measured("/here"),
        GenerateVariant(
            GeneratorKind.FP16, Path("/here/model"), Path("/here/made"), Path("/here/rows"), hardware="cuda"
        ),
    ],
)
def test_build_request_round_trips_without_paths(step: MeasureVariant | GenerateVariant) -> None:
    build = build_of(step)
    sent = msgspec.json.encode(BuildRequest.of(build, 5))
    assert b"/here" not in sent
    assert Build.decoded(msgspec.json.decode(sent, type=BuildRequest).build) == build


@pytest.mark.parametrize("error", [InvalidRequest("a"), NotApplicable("a"), ModelFailed("a"), StepCrashed("a")])
def test_build_outcome_raises_error_of_step(error: Exception) -> None:
    outcome = BuildOutcome.of_error(error)
    with pytest.raises(type(error).__mro__[1] if isinstance(error, StepCrashed) else type(error), match=r"^a$"):
        outcome.result(str, "cuda-0")


def test_build_outcome_names_worker_in_operator_errors() -> None:
    with pytest.raises(OperatorError, match=r"^cuda-0: the disk is full$"):
        BuildOutcome.of_error(OperatorError("the disk is full")).result(str, "cuda-0")
