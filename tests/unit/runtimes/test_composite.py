"""Tests of cascades with stand-in stages, of confidence measures and of composite documents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtimes.catalog import find_runtime
from runtimes.composite import (
    CASCADE,
    CascadeDocument,
    CascadeSession,
    CompositeRuntime,
    ConfidenceMeasure,
    Stage,
    confidence_of,
    guess_measure,
    hold_artifacts,
    runtimes_within,
    unsure_rows,
    with_rows,
)
from runtimes.protocol import Availability, LoadOptions, Session, Tensors
from schemas.errors import OperatorError

SHA = "0" * 64
probabilities = st.floats(0.5, 1.0)


class Told:
    """Stage that answers row `i` with a given answer and records the rows of its requests."""

    def __init__(self, answers: NDArray[np.float64]) -> None:
        self._answers = answers
        self.asked: list[int] = []
        self.closed = False

    def infer(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        rows = inputs["row"]
        self.asked += rows.tolist()
        return {"scores": self._answers[rows], "row": rows + 1000 * len(self._answers)}

    def close(self) -> None:
        self.closed = True


def stages(count: int) -> tuple[Stage, ...]:
    return tuple(Stage(variant=f"a{n}.x.cpu", runtime="told", precision="fp32", artifact=SHA) for n in range(count))


def cascade(told: Sequence[Told], thresholds: Sequence[float]) -> CascadeSession:
    document = CascadeDocument(
        stages=stages(len(told)), thresholds=tuple(thresholds), output="scores", measure=ConfidenceMeasure.PROBABILITY
    )
    return CascadeSession(document, told)


def two_classes(confidence: Sequence[float]) -> NDArray[np.float64]:
    likely = np.array(confidence)
    return np.stack([likely, 1 - likely], axis=1)


@given(
    st.lists(st.tuples(probabilities, probabilities, probabilities), min_size=1, max_size=20),
    st.tuples(probabilities, probabilities),
)
def test_cascade_answers_rows_by_first_confident_stage(
    rows: list[tuple[float, float, float]], thresholds: tuple[float, float]
) -> None:
    told = [Told(two_classes(column)) for column in zip(*rows, strict=True)]
    outputs = cascade(told, thresholds).infer({"row": np.arange(len(rows))})
    asked: list[list[int]] = [[], [], []]
    for row, confidences in enumerate(rows):
        sure = [number for number in (0, 1) if confidences[number] >= thresholds[number]]
        answered_by = sure[0] if sure else 2
        for stage in range(answered_by + 1):
            asked[stage].append(row)
        assert outputs["scores"][row].tolist() == two_classes([confidences[answered_by]])[0].tolist()
        assert outputs["row"][row] == row + 1000 * len(rows)
    assert [one.asked for one in told] == asked, "no stage computes a row that it need not"


def test_cascade_does_not_write_to_outputs_of_stages() -> None:
    first = np.array([[0.6, 0.4], [0.9, 0.1]])
    first.flags.writeable = False
    outputs = cascade([Told(first), Told(two_classes([1.0, 1.0]))], [0.8]).infer({"row": np.arange(2)})
    assert outputs["scores"].tolist() == [[1.0, 0.0], [0.9, 0.1]]


def test_cascade_close_closes_all_stages() -> None:
    told = [Told(two_classes([1.0])), Told(two_classes([1.0]))]
    cascade(told, [0.5]).close()
    assert [one.closed for one in told] == [True, True]


@given(st.integers(1, 10), st.data())
def test_with_rows_merges_chosen_rows(count: int, data: st.DataObject) -> None:
    chosen = np.array(data.draw(st.lists(st.integers(0, count - 1), unique=True)), np.intp)
    merged = with_rows({"x": np.zeros((count, 2))}, chosen, {"x": np.ones((len(chosen), 2))})["x"]
    assert merged.sum() == 2 * len(chosen)
    assert all(merged[row].tolist() == [1.0, 1.0] for row in chosen)


# -- confidence --------------------------------------------------------------------------------------------------------
def test_confidence_of_logits_is_softmax() -> None:
    logits = np.array([[0.0, 0.0], [np.log(3.0), 0.0], [1000.0, -1000.0]])
    assert confidence_of(logits, ConfidenceMeasure.SOFTMAX) == pytest.approx([0.5, 0.75, 1.0])


def test_confidence_of_single_score_assumes_two_classes() -> None:
    assert confidence_of(np.array([[0.2], [0.9]]), ConfidenceMeasure.PROBABILITY) == pytest.approx([0.8, 0.9])
    assert confidence_of(np.array([[-np.log(3.0)]]), ConfidenceMeasure.SOFTMAX) == pytest.approx([0.75])


def test_confidence_of_several_answers_is_minimum() -> None:
    words = np.array([[[0.9, 0.1], [0.6, 0.4]]])
    assert confidence_of(words, ConfidenceMeasure.PROBABILITY) == pytest.approx([0.6])


def test_unsure_rows_includes_nan() -> None:
    scores = np.array([[np.nan, 0.1], [0.9, 0.1]])
    assert unsure_rows(scores, ConfidenceMeasure.PROBABILITY, 0.5).tolist() == [0]
    assert unsure_rows(np.array([0.4, np.nan, 0.6]), ConfidenceMeasure.VALUE, 0.5).tolist() == [0, 1]


@given(st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=5))
def test_confidence_is_probability_of_likeliest_class(logits: list[list[float]]) -> None:
    confidence = confidence_of(np.array(logits), ConfidenceMeasure.SOFTMAX)
    assert ((confidence >= 1 / 3 - 1e-9) & (confidence <= 1)).all()


def test_guess_measure_distinguishes_probabilities_and_logits() -> None:
    assert guess_measure(np.array([[0.3, 0.7], [1.0, 0.0]])) is ConfidenceMeasure.PROBABILITY
    assert guess_measure(np.array([[0.3, 0.3], [1.0, 0.0]])) is ConfidenceMeasure.SOFTMAX
    assert guess_measure(np.array([[-1.0, 2.0]])) is ConfidenceMeasure.SOFTMAX


# -- documents ---------------------------------------------------------------------------------------------------------
def written(folder: Path, document: CascadeDocument, *, artifact: str = SHA) -> Path:
    file = folder / ("c" * 64)
    file.write_bytes(msgspec.json.encode(document))
    (folder / artifact).touch()
    return file


class ToldRuntime:
    name = "told"
    concurrent = False
    hardware = ("cpu",)

    def __init__(self) -> None:
        self.loaded: list[Told] = []
        self.precisions: list[str] = []

    def availability(self, hardware: str) -> Availability:
        return Availability(hardware == "cpu", "only on CPUs")

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> Session:
        if len(self.loaded) == 2:
            raise RuntimeError("no memory is left")
        self.precisions.append(options.precision)
        self.loaded.append(Told(two_classes([0.6, 0.9])))
        return self.loaded[-1]


def runtime_of(runtimes: Sequence[ToldRuntime]) -> CompositeRuntime[CascadeDocument]:
    return CompositeRuntime(CASCADE, CascadeDocument, CascadeSession, runtimes)


def document(count: int = 2) -> CascadeDocument:
    return CascadeDocument(
        stages=stages(count), thresholds=(0.8,) * (count - 1), output="scores", measure=ConfidenceMeasure.PROBABILITY
    )


def test_composite_runtime_loads_stages_beside_document(tmp_path: Path) -> None:
    runtime = ToldRuntime()
    session = runtime_of([runtime]).load(written(tmp_path, document()), "cpu", LoadOptions(precision="mixed"))
    assert session.infer({"row": np.arange(2)})["scores"].shape == (2, 2)
    assert runtime.precisions == ["fp32", "fp32"]
    assert [one.asked for one in runtime.loaded] == [[0, 1], [0]]


def test_composite_runtime_closes_stages_after_failed_load(tmp_path: Path) -> None:
    runtime = ToldRuntime()
    with pytest.raises(RuntimeError, match="no memory"):
        runtime_of([runtime]).load(written(tmp_path, document(3)), "cpu", LoadOptions(precision="mixed"))
    assert [one.closed for one in runtime.loaded] == [True, True]


def test_composite_runtime_names_missing_stage(tmp_path: Path) -> None:
    file = written(tmp_path, document(), artifact="other")
    with pytest.raises(OperatorError, match=r"artifact of stage a0\.x\.cpu is missing"):
        runtime_of([ToldRuntime()]).load(file, "cpu", LoadOptions(precision="mixed"))
    with pytest.raises(OperatorError, match="needs the runtime told; there are"):
        find_runtime("cascade").load(file, "cpu", LoadOptions(precision="mixed"))


@pytest.mark.parametrize("content", [b"", b"[]", b'{"type":"cascade","stages":[]}', b'{"type":"newer"}'])
def test_composite_runtime_refuses_invalid_document(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "artifact"
    file.write_bytes(content)
    with pytest.raises(OperatorError, match="not a cascade or chain known to this version"):
        find_runtime("cascade").load(file, "cpu", LoadOptions(precision="mixed"))


def test_cascade_document_requires_one_threshold_per_link(tmp_path: Path) -> None:
    file = written(tmp_path, msgspec.structs.replace(document(), thresholds=(0.5, 0.6)))
    with pytest.raises(OperatorError, match="joins 2 stages by 2 links"):
        runtimes_within("cascade", file)


def test_runtimes_within_includes_runtimes_of_stages(tmp_path: Path) -> None:
    assert runtimes_within("onnx", tmp_path) == ("onnx",)
    assert runtimes_within("cascade", written(tmp_path, document())) == ("cascade", "told", "told")


def test_composite_runtime_is_available_with_a_stage_runtime() -> None:
    runtime = runtime_of([ToldRuntime()])
    assert runtime.hardware == ("cpu",)
    assert runtime.availability("cpu").available
    assert runtime.availability("cuda").reason == "only on CPUs"


def test_hold_artifacts_holds_document_and_stages(tmp_path: Path) -> None:
    file, held = written(tmp_path, document()), list[str]()

    def hold(sha256: str) -> Path:
        held.append(sha256)
        return tmp_path / sha256

    assert hold_artifacts("cascade", file.name, hold) == file
    assert held == [file.name, SHA, SHA]
