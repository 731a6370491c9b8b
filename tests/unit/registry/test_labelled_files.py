"""Tests of reading labelled inputs from folders and tables, and of interpreting labels."""

from pathlib import Path

import numpy as np
import pytest

from registry.labelled_files import read_labels, read_rows
from schemas.errors import InvalidRequest
from schemas.rows.catalog import TensorSpec

IMAGE = TensorSpec(name="image", datatype="BYTES", shape=(-1, 1))
PIXELS = TensorSpec(name="image", datatype="FP32", shape=(-1, 3, 8, 8))
VECTOR = TensorSpec(name="x", datatype="FP32", shape=(-1, 2))
SCORES = TensorSpec(name="scores", datatype="FP32", shape=(-1, 3))
ONE = TensorSpec(name="score", datatype="FP32", shape=(-1, 1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("owl", "cat", "dog"):
        (tmp_path / "animals" / name).mkdir(parents=True)
        for number in range(5):
            (tmp_path / "animals" / name / f"{number}.png").write_bytes(f"{name} {number}\0".encode())
    (tmp_path / "animals" / "cat" / ".hidden").write_bytes(b"")
    return tmp_path / "animals"


def test_read_rows_takes_classes_from_folder_names(folder: Path) -> None:
    rows = read_rows(folder, [IMAGE], 100)
    assert rows.labels is not None
    assert rows.classes == ("cat", "dog", "owl")
    assert rows.inputs["image"].shape == (15, 1)
    assert rows.inputs["image"][0, 0] == b"cat 0\0"
    labels = read_labels(rows.labels, (), SCORES, rows.classes)
    assert labels.values.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert labels.classes == rows.classes


def test_read_rows_samples_large_folders_from_all_classes(folder: Path) -> None:
    rows = read_rows(folder, [IMAGE], 12)
    assert rows.labels is not None
    assert (rows.count, len(set(rows.labels.tolist()))) == (12, 3)


def test_read_rows_refuses_files_for_numeric_inputs(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"image FP32 \[-1, 3, 8, 8\]: declare processing"):
        read_rows(folder, [PIXELS], 100)


def test_read_rows_resolves_paths_beside_csv(folder: Path) -> None:
    lines = [f"animals/{name}/{number}.png,{name}" for name in ("cat", "dog") for number in range(5)]
    table = folder.parent / "table.csv"
    table.write_text("path,label\n" + "\n".join(lines))
    rows = read_rows(table, [IMAGE], 100)
    assert rows.labels is not None
    assert rows.inputs["image"][9, 0] == b"dog 4\0"
    assert read_labels(rows.labels, (), ONE).values.tolist() == [0] * 5 + [1] * 5


def test_read_rows_reads_texts_and_numbers_from_csv(tmp_path: Path) -> None:
    text = TensorSpec(name="text", datatype="BYTES", shape=(-1,))
    table = tmp_path / "table.csv"
    table.write_text("text,label\n" + '"good, really",1\nbad,0\n' * 6, encoding="utf-8")
    rows = read_rows(table, [text], 100)
    assert rows.labels is not None
    assert rows.inputs["text"][0] == b"good, really"
    assert rows.labels.tolist() == [1, 0] * 6
    table.write_text("width,height,label\n" + "1,2.5,0.5\n" * 12)
    rows = read_rows(table, [VECTOR], 100)
    assert rows.inputs["x"].dtype == np.float32
    assert rows.inputs["x"][0].tolist() == [1, 2.5]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x,label\n1,2,3\n", "row 2: 3 columns, but the header has 2"),
        ("a,b,c,label\n" + "1,2,3,0\n" * 12, r"has the shape \[12, 3\]"),
        ("a,b,label\n" + "1,red,0\n" * 12, "the model takes FP32"),
        ("a,b,label\n1,2,0\n", "at least 10"),
        ("", "at least 10|shape"),
    ],
)
def test_read_rows_refuses_invalid_csv(tmp_path: Path, content: str, said: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(content)
    with pytest.raises(InvalidRequest, match=said):
        read_rows(table, [VECTOR], 100)


def test_read_labels_numbers_names_in_declared_order() -> None:
    names = np.array(["owl", "cat", "owl"])
    assert read_labels(names, ("owl", "dog", "cat"), SCORES).values.tolist() == [0, 2, 0]
    with pytest.raises(InvalidRequest, match="'owl' is not a class of this task; its classes are cat"):
        read_labels(names, ("cat", "dog", "cow"), SCORES)
    with pytest.raises(InvalidRequest, match=r"are 2 names .* has 3 columns: give a file"):
        read_labels(names, (), SCORES)


def test_read_labels_converts_one_hot_rows_to_classes() -> None:
    assert read_labels(np.eye(3, dtype=np.int64)[[2, 0]], (), SCORES).values.tolist() == [2, 0]
    several = np.array([[1, 0, 1], [0, 0, 1]])
    assert read_labels(several, (), SCORES).values.tolist() == several.tolist()


def test_read_labels_keeps_names_for_bytes_outputs() -> None:
    answers = TensorSpec(name="answer", datatype="BYTES", shape=(-1,))
    assert read_labels(np.array(["cat", "dog"]), (), answers).values.tolist() == [b"cat", b"dog"]
