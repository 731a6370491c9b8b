"""Tests of quality measures and of guessing the measure from outputs and labels."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from registry.quality import check_measure, check_scores, guess_measure, quality
from schemas.errors import InvalidRequest
from schemas.rows.catalog import TensorSpec

SCORES = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3], [0.5, 0.4, 0.1]], np.float32)


def _of(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("measure", "outputs", "labels", "value"),
    [
        ("accuracy", SCORES, [0, 2, 1, 1], 0.75),
        ("accuracy", _of(0.9, 0.2, 0.6, 0.4), [1, 0, 0, 0], 0.75),
        ("accuracy", _of(3.0, -2.0, 0.2, -0.1)[:, None], [1, 0, 1, 1], 0.75),
        ("accuracy", np.array([[2], [0], [1], [1]]), [2, 0, 1, 0], 0.75),
        ("accuracy", np.array([b"cat", b"dog"], object), [b"cat", b"cat"], 0.5),
        ("accuracy", np.stack([SCORES, SCORES]), [[0, 2, 1, 0], [0, 0, 0, 0]], 0.75),
        ("top-2", SCORES, [1, 0, 1, 2], 0.5),
        ("f1", _of(0.9, 0.8, 0.6, 0.4), [1, 1, 0, 1], 2 / 3),
        ("f1", _of(0.9, 0.8), [0, 0], 0.0),
        ("f1-macro", SCORES, [0, 2, 1, 1], (2 / 3 + 2 / 3 + 1) / 3),
        ("f1-macro", _of(0.9, 0.1, 0.2, 0.6).reshape(2, 2), [[1, 1], [0, 1]], (1 + 2 / 3) / 2),
        ("1-nrmse", _of(1, 2, 3, 5)[:, None], [1.0, 2.0, 3.0, 4.0], 1 - 0.5 / 3),
        ("1-nrmse", _of(100, -100), [0.0, 1.0], 0.0),
        ("cosine", _of(1, 0, 0, 2).reshape(2, 2), [[3.0, 0.0], [1.0, 1.0]], (1 + 2**-0.5) / 2),
        ("cosine", _of(1, 0).reshape(1, 2), [[-1.0, 0.0]], 0.0),
        ("agreement", SCORES, SCORES[::-1].tolist(), 0.5),
    ],
)
def test_quality_computes_each_measure(measure: str, outputs: Any, labels: Any, value: float) -> None:
    labels = np.array(labels, object if isinstance(labels[0], bytes) else None)
    assert quality(measure, outputs, labels) == pytest.approx(value)


def half_right(outputs: Any, labels: Any) -> float:
    """User-defined measure."""
    return 0.5 if outputs.shape == (4, 3) and labels.shape == (4,) else 2.0


def test_quality_calls_user_function(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{__name__}:half_right"
    check_measure(name)
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or SimpleNamespace(half_right=half_right))
    assert quality(name, SCORES, np.zeros(4)) == 0.5
    with pytest.raises(InvalidRequest, match="returned 2: a measure must be between 0 and 1"):
        quality(name, SCORES, np.zeros(3))


def test_quality_reports_failing_function() -> None:
    with pytest.raises(InvalidRequest, match=r"no\.such:thing failed: ModuleNotFoundError"):
        quality("no.such:thing", SCORES, np.zeros(4))


@pytest.mark.parametrize("name", ["precision", "top-0", "top-x", "f1:", "os.system"])
def test_check_measure_lists_known_measures(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"unknown measure .* top-5, f1, f1-macro"):
        check_measure(name)


@pytest.mark.parametrize(
    ("measure", "labels", "said"),
    [
        ("top-3", [0, 1, 2, 0], "more than 3 scores"),
        ("accuracy", [[0], [1], [2], [0]], r"outputs \[4\]|outputs and labels cannot be compared"),
        ("f1", [0, 1, 2, 0], "use f1-macro for more classes"),
        ("cosine", [0.0, 1.0, 2.0, 0.0], "cannot be compared"),
    ],
)
def test_quality_refuses_incomparable_outputs_and_labels(measure: str, labels: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        quality(measure, SCORES, np.array(labels))


def _output(*shape: int, datatype: str = "FP32") -> TensorSpec:
    return TensorSpec(name="y", datatype=datatype, shape=(-1, *shape))


@pytest.mark.parametrize(
    ("output", "labels", "measure", "doubtful"),
    [
        (_output(3), [0, 1, 2], "accuracy", False),
        (_output(1000), [0, 1, 2], "accuracy", True),
        (_output(1), [0, 1, 1], "accuracy", False),
        (_output(), [0, 1, 1], "accuracy", False),
        (_output(), [0.5, 1.5, 1.0], "1-nrmse", False),
        (_output(datatype="INT64"), [0, 7, 1], "accuracy", False),
        (_output(datatype="BYTES"), np.array([b"a", b"b", b"a"], object), "accuracy", False),
        (_output(3), [[1, 0, 1], [0, 0, 1], [0, 0, 0]], "f1-macro", False),
    ],
)
def test_guess_measure_guesses_unambiguous_cases(output: TensorSpec, labels: Any, measure: str, doubtful: bool) -> None:
    guess = guess_measure(output, np.array(labels) if isinstance(labels, list) else labels)
    assert (guess.measure, guess.doubtful) == (measure, doubtful)


@pytest.mark.parametrize(
    ("output", "labels", "hint"),
    [
        (_output(1), [0, 3, 17], "regression: 1-nrmse"),
        (_output(384), [[0.1] * 384] * 3, "cosine"),
        (_output(5, 5), [0, 1, 2], "this shape use cosine"),
        (_output(datatype="BYTES"), [0, 1, 2], "labels of their own type"),
        (_output(), [[0, 1], [1, 0], [0, 0]], "one label per row"),
    ],
)
def test_guess_measure_gives_hint_for_ambiguous_cases(output: TensorSpec, labels: Any, hint: str) -> None:
    with pytest.raises(InvalidRequest, match=f"ambiguous: .*{hint}.*--measure"):
        guess_measure(output, np.array(labels))


def test_check_scores_refuses_embedding() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 200)
    with pytest.raises(InvalidRequest, match=r"an embedding.*--measure cosine"):
        check_scores("embedding", rng.normal(size=(200, 384)).astype(np.float32), labels)
    logits = rng.normal(size=(200, 384)).astype(np.float32)
    logits[np.arange(200), labels] += 2
    check_scores("logits", logits, labels)
