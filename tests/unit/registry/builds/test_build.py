"""Builds: known by what is to be done, wherever its files lie; and how they end."""

from pathlib import Path

import msgspec
import pytest

from registry.builds.build import Build, BuildOutcome, BuildRequest
from registry.builds.build_files import with_files
from registry.pipeline.generation import GenerateVariant
from registry.pipeline.isolation import StepCrashed
from registry.pipeline.measurement import MeasureVariant
from registry.recipes import GeneratorKind, NotApplicable
from runtimes.protocol import LoadOptions
from schemas.errors import InvalidRequest, ModelFailed, OperatorError
from schemas.rows.processing import Processing, Tokenise


def measured(folder: str, threads: int = 1) -> MeasureVariant:
    place = Path(folder)
    options = LoadOptions(precision="fp32", threads=threads)
    around = Processing(before=Tokenise(tokenizer=str(place / "words")))
    return MeasureVariant(
        place / "model", "onnx", "cuda", options, place / "rows", place / "out", place / "single", around
    )


def build_of(step: MeasureVariant | GenerateVariant, run: str = "") -> Build:
    """The build as another machine would know it: files by their names here, which stand for their contents."""
    return Build(step=with_files(step, lambda file: Path(file.name), lambda file: Path(f"to-{file.name}")), run=run)


def test_the_same_step_is_the_same_build_wherever_its_files_are() -> None:
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
def test_a_build_travels_as_json_and_names_no_place(step: MeasureVariant | GenerateVariant) -> None:
    build = build_of(step)
    sent = msgspec.json.encode(BuildRequest.of(build, 5))
    assert b"/here" not in sent
    assert Build.decoded(msgspec.json.decode(sent, type=BuildRequest).build) == build


@pytest.mark.parametrize("error", [InvalidRequest("a"), NotApplicable("a"), ModelFailed("a"), StepCrashed("a")])
def test_what_a_step_raised_is_raised_where_it_was_asked_for(error: Exception) -> None:
    outcome = BuildOutcome.of_error(error)
    with pytest.raises(type(error).__mro__[1] if isinstance(error, StepCrashed) else type(error), match=r"^a$"):
        outcome.result(str, "cuda-0")


def test_what_is_wrong_with_a_worker_names_it() -> None:
    with pytest.raises(OperatorError, match=r"^cuda-0: the disk is full$"):
        BuildOutcome.of_error(OperatorError("the disk is full")).result(str, "cuda-0")
