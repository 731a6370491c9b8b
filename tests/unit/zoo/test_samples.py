"""Tests of the zoo's labelled data: shapes, split, encoded inputs, and accuracy of the shipped models."""

import numpy as np
import pytest

from runtimes.catalog import find_runtime
from runtimes.processing.session import load_before
from runtimes.protocol import LoadOptions
from schemas.errors import OperatorError
from schemas.signature import TensorSpec
from zoo import samples
from zoo.samples import IMAGES, TEXTS

SHAPES = {
    "sentiment": (3946, 48),
    "mnist": (1500, 1, 28, 28),
    "digits": (540, 1, 8, 8),
    "sentiment-text": (3946,),
    "mnist-image": (1500,),
}


@pytest.mark.parametrize("task", samples.ALL_TASKS)
def test_labelled_inputs_have_documented_shape(task: str) -> None:
    inputs, labels = samples.labelled(task)
    assert labels.shape == SHAPES[task][:1]
    assert {array.shape for array in inputs.values()} == {SHAPES[task]}


def rows_of(inputs: samples.Inputs) -> list[bytes]:
    """Return the rows of the first input."""
    return [row.tobytes() for row in next(iter(inputs.values()))]


@pytest.mark.parametrize("task", samples.TASKS)
def test_calibration_and_labelled_rows_are_separate(task: str) -> None:
    data = samples._load(task)  # pyright: ignore[reportPrivateUsage]
    everything = rows_of(samples._inputs(task, data, np.arange(len(data["y"]))))  # pyright: ignore[reportPrivateUsage]
    training = {row for row, held_out in zip(everything, data["te"], strict=True) if not held_out}
    calibration, labelled = rows_of(samples.calibration(task, len(everything))), rows_of(samples.labelled(task)[0])
    assert len(calibration) + len(labelled) == len(everything)
    assert set(calibration) == training
    assert sum(row in training for row in labelled) < 0.01 * len(labelled), "but for a few equal short texts"


def test_calibration_is_deterministic() -> None:
    again = samples.calibration("mnist", 8)["input"]
    assert np.array_equal(samples.calibration("mnist", 8)["input"], again)


def test_labelled_texts_keep_closing_token() -> None:
    inputs, _ = samples.labelled("sentiment")
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    last = ids[np.arange(len(ids)), mask.sum(axis=1) - 1]
    assert set(last.tolist()) == {102}


def test_encoded_samples_equal_tensors() -> None:
    tokenise = load_before(TEXTS, [TensorSpec(name="input_ids", datatype="INT64", shape=(-1, -1))])
    data = samples._load("sentiment")  # pyright: ignore[reportPrivateUsage]
    texts, _ = samples.labelled("sentiment-text")
    for index in (0, 7, 100):
        row = np.flatnonzero(data["te"])[index]
        length = int(data["mask"][row].sum())
        found = tokenise(texts["text"][index])["input_ids"]
        np.testing.assert_array_equal(found[0], data["ids"][row][:length])
    decode = load_before(IMAGES, [TensorSpec(name="input", datatype="FP32", shape=(-1, 1, 28, 28))])
    files, pixels = samples.labelled("mnist-image")[0]["image"], samples.labelled("mnist")[0]["input"]
    np.testing.assert_allclose(decode(files[5])["input"], pixels[5:6], atol=1e-6)


@pytest.mark.parametrize("task", samples.ALL_TASKS)
def test_example_is_a_held_out_input(task: str) -> None:
    inputs, _labels = samples.labelled(task)
    assert {name: values.tolist() for name, values in samples.example(task).items()} == {
        name: values[:1].tolist() for name, values in inputs.items()
    }


def test_labelled_rejects_unknown_task() -> None:
    with pytest.raises(OperatorError, match="no task 'speech'"):
        samples.labelled("speech")


@pytest.mark.parametrize(
    ("task", "file", "accuracy"),
    [
        ("sentiment", "sent_fasttext", 0.739),
        ("sentiment", "sent_textcnn", 0.822),
        ("mnist", "mnist_linear", 0.902),
        ("mnist", "mnist_cnn_m", 0.984),
        ("digits", "digits_cnn", 0.993),
    ],
)
def test_shipped_models_reach_their_accuracy(task: str, file: str, accuracy: float) -> None:
    session = find_runtime("onnx").load(samples.DATA / f"{file}.onnx", "cpu", LoadOptions(precision="fp32"))
    inputs, labels = samples.labelled(task)
    hits = session.infer(inputs)["logits"].argmax(axis=1) == labels
    assert hits.mean() == pytest.approx(accuracy, abs=0.002)
