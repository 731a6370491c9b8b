"""Tests of the flags and files that declare processing, and of texts and files as inputs."""

from pathlib import Path

import pytest

from infaas.cli.processing import declared_processing, plain_inputs, read_processing
from schemas.errors import InvalidRequest
from schemas.rows.catalog import DecodeImage, PoolTokens, Processing, Softmax, Tokenise, TopClasses
from schemas.signature import TensorSpec

TEXT = (TensorSpec(name="text", datatype="BYTES", shape=(-1,)),)


def test_declared_processing_reads_flags(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    found = declared_processing(tokenizer, None, None, None, None)
    assert found == Processing(before=Tokenise(tokenizer=str(tokenizer)))
    found = declared_processing(None, "28x20:grey", None, 3, tmp_path / "classes.txt")
    assert found is not None
    assert found.before == DecodeImage(width=28, height=20, channels="grey")
    assert found.after == (TopClasses(count=3, labels=str(tmp_path / "classes.txt")),)
    found = declared_processing(None, "224x224", None, None, None)
    assert found is not None
    assert found.before == DecodeImage(width=224, height=224)
    assert declared_processing(None, None, None, None, None) is None


def test_declared_processing_refuses_contradicting_flags(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="--tokenizer and --image exclude one another"):
        declared_processing(tmp_path, "1x1", None, None, None)
    with pytest.raises(InvalidRequest, match="not '28'"):
        declared_processing(None, "28", None, None, None)
    with pytest.raises(InvalidRequest, match="--top needs"):
        declared_processing(None, None, None, 1, None)
    with pytest.raises(InvalidRequest, match="--pool needs --tokenizer"):
        declared_processing(None, None, None, None, None, "mean")
    with pytest.raises(InvalidRequest, match=r"--pool must be mean, cls or last, .* not 'max'"):
        declared_processing(tmp_path, None, None, None, None, "max")


@pytest.mark.parametrize(
    ("flag", "pool"),
    [("mean", PoolTokens()), ("cls:l2", PoolTokens(mode="cls", normalise=True)), ("last", PoolTokens(mode="last"))],
)
def test_declared_processing_reads_pooling(tmp_path: Path, flag: str, pool: PoolTokens) -> None:
    found = declared_processing(tmp_path, None, None, None, None, flag)
    assert found is not None
    assert found.after == (pool,)


def test_read_processing_resolves_files_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "steps.toml"
    file.write_text(
        'before = {step = "tokenise", tokenizer = "t/tokenizer.json", max_tokens = 64, cut = true}\n'
        'after = [{step = "softmax"}, {step = "top", labels = "names.txt"}]\n'
    )
    found = read_processing(file)
    assert found.before == Tokenise(tokenizer=str(tmp_path / "t/tokenizer.json"), max_tokens=64, cut=True)
    assert found.after == (Softmax(), TopClasses(labels=str(tmp_path / "names.txt")))
    json = tmp_path / "steps.json"
    json.write_text('{"before": {"step": "image", "width": 4, "height": 4, "mean": [0.5], "shorter_side": 5}}')
    assert read_processing(json).before == DecodeImage(width=4, height=4, mean=(0.5,), shorter_side=5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('before = {step = "audio"}', "audio"),
        ('before = {step = "image", width = 0, height = 4}', ">= 1"),
        ('before = {step = "image", width = 4, height = 4, colour = "red"}', "colour"),
        ("before =", "is not a valid processing declaration"),
    ],
)
def test_read_processing_refuses_invalid_file(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "steps.toml"
    file.write_text(content)
    with pytest.raises(InvalidRequest, match=message):
        read_processing(file)


def test_plain_inputs_accept_texts_and_files(tmp_path: Path) -> None:
    image = tmp_path / "x.png"
    image.write_bytes(b"\x89PNG\x00")
    assert plain_inputs(["a film", str(image)], TEXT, "t")["text"].tolist() == [b"a film", b"\x89PNG\x00"]
    long = "a film " * 2000
    assert plain_inputs([long], TEXT, "t")["text"].tolist() == [long.encode()]
    with pytest.raises(InvalidRequest, match=r"t takes tensors \(x FP32 \[-1, 4\]\): give them by --inputs"):
        plain_inputs(["a"], (TensorSpec(name="x", datatype="FP32", shape=(-1, 4)),), "t")
