"""Quality of a task's answers, by a declared measure. Pure, except for a function of the user's own.

Every measure is 0..1, and higher is better, so each of them can stand for the accuracy:

* `accuracy`: share of right classes. The class is the largest score. For a single column it is 1 if the value exceeds
  one half, or exceeds 0 if the values are logits; else 0. For integers and strings it is the value itself;
* `top-5`, or any other number: share of inputs whose class is among that many largest scores;
* `f1`: F1 of class 1 against class 0; `f1-macro`: mean F1 over classes, or over the columns of multi-hot labels;
* `1-nrmse`: for regressions, 1 minus the root mean square error over the range of the labels;
* `cosine`: mean cosine similarity to vectors given as labels, or to the outputs of a reference;
* `exact-match`: share of answers of a language model that are the label, but for case, punctuation and articles;
* `contains`: share of its answers that contain the label, compared alike, as whole words. A label may have several
  lines, each of which is right;
* `agreement`: share of inputs with the same result as a reference: the same class, or a value within 5 % of its range;
* `module:function`: a function of outputs and labels, which the user names on the machine where it is imported.

A measure is guessed only if outputs and labels leave no doubt: an embedding has columns like scores, and integers may
be counts.
"""

import importlib
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.errors import InvalidRequest
from schemas.generation import TEXT_OUTPUT
from schemas.rows.catalog import ACCURACY, TensorSpec

AGREEMENT: Final = "agreement"
COSINE: Final = "cosine"
EXACT_MATCH: Final = "exact-match"
CONTAINS: Final = "contains"
F1: Final = "f1"
MACRO_F1: Final = "f1-macro"
REGRESSION: Final = "1-nrmse"
RELATIVE: Final = (AGREEMENT, COSINE)
"""Measures for which the outputs of a reference can replace labels."""
CHOICES: Final = (
    f"{ACCURACY}, top-5, {F1}, {MACRO_F1}, {REGRESSION}, {COSINE}, {AGREEMENT}, {EXACT_MATCH}, {CONTAINS} or "
    "module:function"
)
_TOP: Final = re.compile(r"top-([1-9]\d{0,3})")
_FUNCTION: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_WORDS: Final = re.compile(r"\w+(?:[.,]\d+)*")
_ARTICLES: Final = ("a", "an", "the")
_TOLERANCE: Final = 0.05
_SURE: Final = 3.0
"""Factor over chance by which the largest score must be right for an output to count as scores."""
_NAME_IT: Final = f"name it by --measure ({CHOICES})"

Labels = NDArray[Any]
Outputs = NDArray[Any]


class Guess(msgspec.Struct, frozen=True):
    """Measure that outputs and labels suggest."""

    measure: str
    why: str
    doubtful: bool = False
    """True if the outputs must prove that they are scores."""


def check_measure(name: str) -> None:
    """Raise `InvalidRequest` if there is no such measure."""
    known = name in _MEASURES
    if not known and not _TOP.fullmatch(name) and not is_function(name):
        raise InvalidRequest(f"unknown measure {name!r}: {_NAME_IT}")


def is_function(name: str) -> bool:
    """Return true if the measure is a function of a user's own."""
    return bool(_FUNCTION.fullmatch(name))


def quality(measure: str, outputs: Outputs, labels: Labels) -> float:
    """Return the quality of outputs by a measure, 0..1.

    Raises:
        InvalidRequest: the measure cannot compare these outputs and labels, or its function fails.
    """
    if is_function(measure):
        return _by_function(measure, outputs, labels)
    top = _TOP.fullmatch(measure)
    value = _top(outputs, labels, int(top[1])) if top else _MEASURES[measure](outputs, labels)
    if not np.isfinite(value):
        raise InvalidRequest(f"{measure} of these outputs and labels is not a finite number")
    return min(max(value, 0.0), 1.0)


# -- the measures ------------------------------------------------------------------------------------------------------
def _accuracy(outputs: Outputs, labels: Labels) -> float:
    return float(np.mean(_same_shape(classes_of(outputs), labels) == labels))


def _top(outputs: Outputs, labels: Labels, count: int) -> float:
    if outputs.ndim != 2 or outputs.shape[1] <= count or labels.ndim != 1:
        raise InvalidRequest(
            f"top-{count} needs more than {count} scores and one class per row, not {_forms(outputs, labels)}"
        )
    best = np.argpartition(outputs, -count, axis=1)[:, -count:]
    return float(np.mean((best == labels[:, None]).any(axis=1)))


def _f1(outputs: Outputs, labels: Labels) -> float:
    found = _same_shape(classes_of(outputs), labels)
    if not np.isin(labels, (0, 1)).all() or not np.isin(found, (0, 1)).all():
        raise InvalidRequest(f"f1 is for the classes 0 and 1; use {MACRO_F1} for more classes")
    return _f1_of(found == 1, labels == 1)


def _macro_f1(outputs: Outputs, labels: Labels) -> float:
    if labels.ndim == 2 and labels.shape == outputs.shape:
        found = outputs > _threshold(outputs)
        return float(np.mean([_f1_of(found[:, one], labels[:, one] == 1) for one in range(labels.shape[1])]))
    found = _same_shape(classes_of(outputs), labels)
    return float(np.mean([_f1_of(found == one, labels == one) for one in np.union1d(found, labels)]))


def _f1_of(found: NDArray[np.bool_], right: NDArray[np.bool_]) -> float:
    """Return the F1 of one class; 0 if it is neither found nor present, as is usual."""
    total = int(found.sum()) + int(right.sum())
    return 2 * int((found & right).sum()) / total if total else 0.0


def _one_minus_error(outputs: Outputs, labels: Labels) -> float:
    wide = labels.astype(np.float64)
    values = _same_shape(_squeezed(outputs, labels.ndim), labels).astype(np.float64)
    if not np.ptp(wide):
        raise InvalidRequest(f"{REGRESSION} needs labels that differ")
    return 1.0 - float(np.sqrt(np.mean((values - wide) ** 2))) / float(np.ptp(wide))


def _cosine(outputs: Outputs, labels: Labels) -> float:
    wide, values = labels.astype(np.float64), _same_shape(outputs, labels).astype(np.float64)
    wide, values = wide.reshape(len(wide), -1), values.reshape(len(values), -1)
    lengths = np.linalg.norm(wide, axis=1) * np.linalg.norm(values, axis=1)
    return float(np.mean((wide * values).sum(axis=1) / np.maximum(lengths, 1e-12)))


def agreement(outputs: Outputs, reference: Outputs) -> float:
    """Return the share of inputs, or of values if there are no scores, with the same result."""
    if reference.ndim == 2 and reference.shape[1] > 1 and reference.dtype.kind in "fiu":
        return float(np.mean(outputs.argmax(axis=1) == reference.argmax(axis=1)))
    if reference.dtype.kind not in "fiu":
        return float(np.mean(outputs == reference))
    wide = reference.astype(np.float64)
    return float(np.mean(np.abs(outputs - wide) <= _TOLERANCE * max(np.ptp(wide), 1e-9)))


TEXT_MEASURES: Final[dict[str, Callable[[str, str], bool]]] = {
    EXACT_MATCH: lambda answer, right: answer == right,
    CONTAINS: lambda answer, right: f" {right} " in f" {answer} ",
}
"""Comparison of an answer with its label, by measure."""


def _share_right(measure: str) -> Callable[[Outputs, Labels], float]:
    return lambda outputs, labels: float(np.mean(right_texts(measure, outputs, labels)))


def right_texts(measure: str, outputs: Outputs, labels: Labels) -> NDArray[np.bool_]:
    """Return for each answer of a language model whether it is right by one of the `TEXT_MEASURES`.

    Raises:
        InvalidRequest: answers or labels are no texts.
    """
    is_right = TEXT_MEASURES[measure]
    if outputs.dtype.kind != "O" or labels.dtype.kind != "O":
        raise InvalidRequest("answers and labels must be texts for this measure")
    answers = _same_shape(outputs, labels).reshape(-1).tolist()
    rows = zip(map(_in_plain_words, answers), labels.reshape(-1).tolist(), strict=True)
    return np.array(
        [any(is_right(answer, _in_plain_words(one)) for one in label.splitlines()) for answer, label in rows]
    )


def _in_plain_words(text: bytes) -> str:
    """Return a text in lower case, without punctuation and articles."""
    words = _WORDS.findall(text.decode(errors="replace").lower())
    return " ".join(word for word in words if word not in _ARTICLES)


_MEASURES: Final[dict[str, Callable[[Outputs, Labels], float]]] = {
    ACCURACY: _accuracy,
    F1: _f1,
    MACRO_F1: _macro_f1,
    REGRESSION: _one_minus_error,
    COSINE: _cosine,
    EXACT_MATCH: _share_right(EXACT_MATCH),
    CONTAINS: _share_right(CONTAINS),
    AGREEMENT: agreement,
}


def _by_function(name: str, outputs: Outputs, labels: Labels) -> float:
    module, _, function = name.partition(":")
    try:
        value = float(getattr(importlib.import_module(module), function)(outputs, labels))
    except Exception as error:  # any error of the function is reported to the user who named it
        raise InvalidRequest(f"--measure {name} failed: {type(error).__name__}: {error}") from error
    if not 0 <= value <= 1:
        raise InvalidRequest(
            f"--measure {name} returned {value:g}: a measure must be between 0 and 1, and higher is better"
        )
    return value


def classes_of(outputs: Outputs) -> Outputs:
    """Return the class that the outputs give each input."""
    if outputs.dtype.kind != "f":
        return _squeezed(outputs, 1)
    if outputs.ndim == 1 or outputs.shape[-1] == 1:
        return (_squeezed(outputs, 1) > _threshold(outputs)).astype(np.int64)
    return outputs.argmax(axis=-1)


def _threshold(outputs: Outputs) -> float:
    """Return the threshold of a single column: one half for probabilities, 0 for logits."""
    return 0.5 if outputs.min() >= 0 and outputs.max() <= 1 else 0.0


def _squeezed(outputs: Outputs, rank: int) -> Outputs:
    return outputs[..., 0] if outputs.ndim == rank + 1 and outputs.shape[-1] == 1 else outputs


def _same_shape(found: Outputs, labels: Labels) -> Outputs:
    if found.shape != labels.shape:
        raise InvalidRequest(
            f"outputs and labels cannot be compared by this measure: {_forms(found, labels)}; {_NAME_IT}"
        )
    return found


def _forms(outputs: Outputs, labels: Labels) -> str:
    return f"outputs {list(outputs.shape)}, labels {list(labels.shape)}"


# -- the guess ---------------------------------------------------------------------------------------------------------
def guess_measure(output: TensorSpec, labels: Labels) -> Guess:
    """Return the measure that labels of this form suggest for an output of this form.

    Raises:
        InvalidRequest: several measures are possible; the message names them.
    """
    kind, shape, columns = labels.dtype.kind, output.shape, output.shape[-1] if len(output.shape) > 1 else 1
    if not output.datatype.startswith(("FP", "BF")):
        if output.name == TEXT_OUTPUT:
            return Guess(CONTAINS, "its answers are texts of a language model")
        if labels.ndim == 1 and (kind in "iub") == (output.datatype != "BYTES"):
            return Guess(ACCURACY, f"{output.name!r} is the class itself")
        raise _unclear(output, labels, "integers and strings need labels of their own type")
    if len(shape) > 2:
        raise _unclear(output, labels, f"for this shape use {COSINE} or {REGRESSION} with labels of the same shape")
    if columns == 1:
        return _guess_column(output, labels)
    if labels.ndim == 2 and kind in "iub" and labels.shape[1] == columns:
        return Guess(MACRO_F1, f"the labels are multi-hot with the columns of {output.name!r}")
    if labels.ndim == 1 and kind in "iu":
        sure = columns == int(labels.max()) + 1
        return Guess(ACCURACY, f"{output.name!r} has a score for each of the classes", doubtful=not sure)
    raise _unclear(output, labels, f"use {COSINE} for vectors, {REGRESSION} for values")


def _guess_column(output: TensorSpec, labels: Labels) -> Guess:
    if labels.ndim > 2 or (labels.ndim == 2 and labels.shape[1] != 1):
        raise _unclear(output, labels, "one column needs one label per row")
    if labels.dtype.kind == "f":
        return Guess(REGRESSION, f"{output.name!r} and the labels are one value per row")
    if set(np.unique(labels).tolist()) == {0, 1}:
        return Guess(ACCURACY, f"{output.name!r} is one column, and the labels are 0 and 1")
    raise _unclear(output, labels, f"one column with integer labels may be a regression: {REGRESSION}")


def check_scores(output: str, outputs: Outputs, labels: Labels) -> None:
    """Raise `InvalidRequest` unless the outputs prove to be scores of classes, not an embedding."""
    positive = outputs.min() >= 0 and np.allclose(outputs.sum(axis=1), 1.0, atol=1e-2)
    often = _accuracy(outputs, labels)
    common = float(np.unique(labels, return_counts=True)[1].max()) / len(labels)
    if not positive and often < max(_SURE / outputs.shape[1], common):
        raise InvalidRequest(
            f"output {output!r} has {outputs.shape[1]} columns, the labels go up to {labels.max()}, and the largest "
            f"column is the label in only {often:.2%}. For an embedding give vectors as labels and --measure {COSINE}, "
            f"or --measure {AGREEMENT} without labels; for scores give --measure {ACCURACY}"
        )


def _unclear(output: TensorSpec, labels: Labels, hint: str) -> InvalidRequest:
    return InvalidRequest(
        f"the measure is ambiguous: output {output.name!r} is {output.datatype} {list(output.shape)}, the labels are "
        f"{labels.dtype} {list(labels.shape)} ({hint}): {_NAME_IT}"
    )
