"""Tests of the header of GGUF files."""

from pathlib import Path

import pytest

from runtimes.gguf_header import MAGIC, read_gguf_header
from schemas.errors import InvalidRequest, OperatorError
from tests.gguf_models import CONTEXT, write_gguf


def test_read_gguf_header_states_model(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    header = read_gguf_header(file)
    assert file.read_bytes().startswith(MAGIC)
    assert (header.architecture, header.precision, header.context_tokens) == ("llama", "fp16", CONTEXT)
    assert header.has_chat_template
    assert header.tensor_types == {0: 5, 1: 16}


def test_read_gguf_header_refuses_damaged_files(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "tiny.gguf").read_bytes()
    damaged = tmp_path / "damaged.gguf"
    for length in (0, 3, 8, 20, 100, 3000):
        damaged.write_bytes(whole[:length])
        with pytest.raises(InvalidRequest, match="damaged"):
            read_gguf_header(damaged)
    damaged.write_bytes(whole[:16] + b"\xff" * 8 + whole[24:])  # claims more entries than any file has
    with pytest.raises(InvalidRequest, match="damaged"):
        read_gguf_header(damaged)


def test_read_gguf_header_names_missing_file(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot read"):
        read_gguf_header(tmp_path / "absent.gguf")
