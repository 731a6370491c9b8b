"""Tests of file sources: their rows, unreadable rows, and reading from any position."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from infaas.batch import rows
from infaas.batch.formats import open_source
from infaas.batch.formats.file_format import RowFile
from infaas.batch.rows import Chunk
from schemas.errors import OperatorError
from schemas.rows.catalog import TensorSpec
from schemas.tensors import Array

PIXELS = TensorSpec(name="pixels", datatype="FP32", shape=(-1, 2, 2))
TEXT = TensorSpec(name="text", datatype="BYTES", shape=(-1,))
IDS = TensorSpec(name="ids", datatype="INT64", shape=(-1, -1))
VALUES = np.arange(44, dtype=np.float32).reshape(11, 2, 2)


def jsonl(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def as_jsonl(folder: Path) -> Path:
    return jsonl(folder / "in.jsonl", [{"id": f"r{n}", "pixels": row.tolist()} for n, row in enumerate(VALUES)])


def as_csv(folder: Path) -> Path:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["id", "note", *(f"pixels.{n}" for n in range(4))])
    writer.writerows([f"r{n}", "two\nlines", *row.reshape(-1)] for n, row in enumerate(VALUES))
    (folder / "in.csv").write_text("\ufeff" + text.getvalue())
    return folder / "in.csv"


def as_npz(folder: Path) -> Path:
    np.savez(folder / "in.npz", label=np.arange(11), pixels=VALUES)
    return folder / "in.npz"


def as_small_npz(folder: Path) -> Path:
    np.savez_compressed(folder / "in.npz", pixels=VALUES.reshape(11, 4).astype(np.uint8))
    return folder / "in.npz"


def as_parquet(folder: Path) -> Path:
    columns = {"id": [f"r{n}" for n in range(11)], "pixels": VALUES.reshape(11, 4).tolist()}
    parquet.write_table(pa.table(columns), folder / "in.parquet", row_group_size=5)
    return folder / "in.parquet"


def as_nested_parquet(folder: Path) -> Path:
    parquet.write_table(pa.table({"pixels": VALUES.tolist()}), folder / "in.parquet")
    return folder / "in.parquet"


def together(chunks: Sequence[Chunk], name: str) -> tuple[list[int], Array]:
    rows = [rows for chunk in chunks for rows in chunk.rows]
    return [int(n) for r in rows for n in r.numbers], np.concatenate([r.inputs[name] for r in rows])


def read(source: RowFile, size: int, **begin: Any) -> list[Chunk]:
    return list(source.read(begin, size))


@pytest.mark.parametrize("write", [as_jsonl, as_csv, as_npz, as_small_npz, as_parquet, as_nested_parquet])
@pytest.mark.parametrize("size", [1, 3, 20])
def test_sources_read_same_rows_from_any_position(tmp_path: Path, write: Callable[[Path], Path], size: int) -> None:
    source = open_source(write(tmp_path), [PIXELS])
    whole = read(source, size)
    numbers, pixels = together(whole, "pixels")
    assert numbers == list(range(11))
    assert pixels.dtype == np.float32
    assert np.array_equal(pixels, VALUES)
    assert all(chunk.size <= size for chunk in whole)
    assert source.total is not None
    assert source.total >= 11
    assert source.row_bytes() > 0
    for at, chunk in enumerate(whole):
        rest = read(source, size, **chunk.end)
        assert [c.end for c in rest] == [c.end for c in whole[at + 1 :]]
        assert [c.rows[0].numbers.tolist() for c in rest] == [c.rows[0].numbers.tolist() for c in whole[at + 1 :]]


@pytest.mark.parametrize("write", [as_jsonl, as_csv, as_parquet])
def test_sources_read_ids_of_rows(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    chunks = read(open_source(write(tmp_path), [PIXELS]), 4)
    assert [name for chunk in chunks for name in chunk.rows[0].ids] == [f"r{n}" for n in range(11)]


def test_jsonl_source_fails_only_unreadable_lines(tmp_path: Path) -> None:
    good = {"pixels": [1, 2, 3, 4]}
    lines = [
        json.dumps(good), "", "no json", json.dumps({"id": 7}), json.dumps({"pixels": [1, 2]}),
        json.dumps({"pixels": [1, "x", 3, 4]}), json.dumps({"pixels": [[1, 2], [3, 4]]}),
    ]  # fmt: skip
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    (chunk,) = read(open_source(tmp_path / "in.jsonl", [PIXELS]), 100)
    assert chunk.rows[0].numbers.tolist() == [0, 5]
    assert [(row.number, row.id) for row in chunk.unreadable] == [(1, None), (2, 7), (3, None), (4, None)]
    reasons = [row.reason for row in chunk.unreadable]
    parts = ("JSON is malformed", "'pixels' is missing", "needs 4 elements", "pixels[1]")
    assert all(part in reason for part, reason in zip(parts, reasons, strict=True)), reasons
    assert {row.code for row in chunk.unreadable} == {"invalid_request"}


def test_sources_group_rows_by_length(tmp_path: Path) -> None:
    source = open_source(jsonl(tmp_path / "in.jsonl", [{"ids": [1]}, {"ids": [1, 2]}, {"ids": [3]}]), [IDS])
    (chunk,) = read(source, 100)
    assert [rows.numbers.tolist() for rows in chunk.rows] == [[0, 2], [1]]
    assert [rows.inputs["ids"].tolist() for rows in chunk.rows] == [[[1], [3]], [[1, 2]]]
    parquet.write_table(pa.table({"ids": [[1], [1, 2], None, [3]]}), tmp_path / "in.parquet")
    (chunk,) = read(open_source(tmp_path / "in.parquet", [IDS]), 100)
    assert [rows.numbers.tolist() for rows in chunk.rows] == [[0, 3], [1]]
    assert [row.number for row in chunk.unreadable] == [2]


def test_sources_read_texts_unchanged(tmp_path: Path) -> None:
    texts = ["a wonderful film", 'with "quotes",\nand lines', "ä"]
    wanted = [text.encode() for text in texts]
    jsonl(tmp_path / "a.jsonl", texts)
    jsonl(tmp_path / "b.jsonl", [{"text": text} for text in texts])
    with (tmp_path / "c.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    np.savez(tmp_path / "d.npz", text=np.array(texts))
    parquet.write_table(pa.table({"text": texts}), tmp_path / "e.parquet")
    for name in ("a.jsonl", "b.jsonl", "c.csv", "d.npz", "e.parquet"):
        (chunk,) = read(open_source(tmp_path / name, [TEXT]), 10)
        assert chunk.rows[0].inputs["text"].tolist() == wanted, name


def test_folder_source_reads_in_order_of_paths(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a.png", "c.png", "b.png", ".hidden/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    source = open_source(tmp_path, [TEXT])
    whole = read(source, 2)
    paths = [path for chunk in whole for path in chunk.rows[0].ids]
    assert paths == ["a.png", "b.png", "b/1.png", "b/2.png", "c.png"]
    assert [bytes(value).decode() for value in together(whole, "text")[1]] == paths
    assert source.total == 5
    for at, chunk in enumerate(whole):
        assert [c.end for c in read(source, 2, **chunk.end)] == [c.end for c in whole[at + 1 :]]
    before = source.fingerprint()
    (tmp_path / "d.png").write_bytes(b"")
    assert open_source(tmp_path, [TEXT]).fingerprint() != before


def test_sources_bound_chunks_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHUNK_BYTES", 40)
    assert [chunk.size for chunk in read(open_source(as_jsonl(tmp_path), [PIXELS]), 100)] == [2, 2, 2, 2, 2, 1]
    texts = ["x" * 15] * 5
    (tmp_path / "in.csv").write_text("\n".join(["text", *texts]))
    for path in (jsonl(tmp_path / "in.jsonl", texts), tmp_path / "in.csv"):
        assert [chunk.size for chunk in read(open_source(path, [TEXT]), 100)] == [2, 2, 1], path


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("in.csv", b"a,b\n1,2\n", r"needs a column of that name, or one column for each element: pixels\.0"),
        ("in.csv", b"", "there are 0"),
        ("in.csv", b"a,b\r1,2\r", "the header is not valid CSV: new-line .*; lines must end in LF or CR LF"),
        ("in.npz", b"no archive", "is not an .npz file of plain arrays"),
        ("in.parquet", b"no parquet", "is not a Parquet file"),
        ("in.xlsx", b"", r"cannot read rows from this; use a folder of files, \.jsonl"),
    ],
)
def test_open_source_explains_unreadable_file(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OperatorError, match=reason):
        open_source(tmp_path / name, [PIXELS])


def test_open_source_explains_mismatched_arrays(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"other": VALUES}, "there is no array 'pixels'; it has other"),
        ({"pixels": VALUES.reshape(22, 2)}, r"has the shape \[2\]; the task takes \[2, 2\]"),
        ({"pixels": VALUES.astype(str)}, "the task takes FP32"),
        ({"pixels": np.float32(1)}, "no rows as its first axis"),
    ]
    for arrays, reason in cases:
        np.savez(tmp_path / "in.npz", **arrays)
        with pytest.raises(OperatorError, match=reason):
            open_source(tmp_path / "in.npz", [PIXELS])
    with pytest.raises(OperatorError, match=r"missing\.npz: No such file"):
        open_source(tmp_path / "missing.npz", [PIXELS])


def test_csv_source_fails_rows_with_invalid_cells(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("flag,n\ntrue,1\nmaybe,2\n0,300\n1\nfalse,3\n")
    inputs = [
        TensorSpec(name="flag", datatype="BOOL", shape=(-1,)),
        TensorSpec(name="n", datatype="UINT8", shape=(-1, 1)),
    ]
    (chunk,) = read(open_source(tmp_path / "in.csv", inputs), 10)
    assert chunk.rows[0].inputs["flag"].tolist() == [True, False]
    assert chunk.rows[0].inputs["n"].tolist() == [[1], [3]]
    assert [row.number for row in chunk.unreadable] == [1, 2, 3]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,old\rends", "line 3 is not valid CSV: new-line character seen in unquoted field"),
        (f"1,{'x' * 100}", "line 3 is not valid CSV: field larger than field limit (50)"),
        (f'1,"{"x" * 30}', "line 3 is not valid CSV: field larger than field limit (50)"),
        ('1,"x', "line 3 is not valid CSV: an opening quote has no closing quote"),
    ],
)
def test_csv_source_fails_only_invalid_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, reason: str
) -> None:
    monkeypatch.setattr("infaas.batch.formats.csv_table._LONGEST_CELL", 50)
    rest = ["2,two", "3,three", "4,four\0", "5,five", "6,six"]
    (tmp_path / "in.csv").write_bytes("\n".join(["ids,text", "0,zero", line, *rest]).encode())
    source = open_source(tmp_path / "in.csv", [IDS, TEXT])
    for size in (1, 2, 20):
        whole = read(source, size)
        assert together(whole, "ids")[0] == [0, 2, 3, 4, 5, 6]
        assert together(whole, "ids")[1].tolist() == [[0], [2], [3], [4], [5], [6]]
        assert [(row.number, row.code, row.reason) for chunk in whole for row in chunk.unreadable] == [
            (1, "invalid_request", reason)
        ]
        for at, chunk in enumerate(whole):
            rest_of_it = read(source, size, **chunk.end)
            assert [c.end for c in rest_of_it] == [c.end for c in whole[at + 1 :]]
            assert [c.unreadable for c in rest_of_it] == [c.unreadable for c in whole[at + 1 :]]


def test_csv_source_reads_text_of_many_lines_as_a_row(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('text\n"a\n\nb"\n"c\nd')
    (chunk,) = read(open_source(tmp_path / "in.csv", [TEXT]), 10)
    assert chunk.rows[0].inputs["text"].tolist() == [b"a\n\nb", b"d"]
    assert [(row.number, row.reason[:6]) for row in chunk.unreadable] == [(1, "line 5")]


def test_jsonl_source_fails_only_rows_with_invalid_ids(tmp_path: Path) -> None:
    odd = [b'"\xff"', b"1e999", b"123456789012345678901234567890", b'{"big": [18446744073709551616]}', b'"good"']
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(b'{"id": %b, "pixels": [1, 2, 3, 4]}\n' % name for name in odd))
    (chunk,) = open_source(path, [PIXELS]).read({}, 100)
    assert [row.number for row in chunk.unreadable] == [0, 1, 2, 3]
    assert {row.code for row in chunk.unreadable} == {"invalid_request"}
    assert [list(rows.ids) for rows in chunk.rows] == [["good"]]


def test_open_source_explains_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("a text")

    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(OperatorError, match=r"cannot read .*: Permission denied"):
        open_source(tmp_path, [TEXT])
