"""Tests of the single steps before and after a model."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from msgspec.structs import replace

from runtimes.processing.steps import (
    BestClasses,
    ImageDecoder,
    PooledTokens,
    SoftmaxScores,
    TextTokeniser,
    read_class_names,
)
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import DecodeImage, PoolTokens, Tokenise, TopClasses
from schemas.signature import TensorSpec
from tests.processing_files import encoded_image, write_tokenizer

IDS, MASK, TYPES = (
    TensorSpec(name=name, datatype=datatype, shape=(-1, -1))
    for name, datatype in (("input_ids", "INT64"), ("attention_mask", "INT64"), ("token_type_ids", "INT32"))
)
GREY = TensorSpec(name="x", datatype="FP32", shape=(-1, 1, 4, 4))
RGB = TensorSpec(name="x", datatype="FP32", shape=(-1, 3, 2, 2))


def tokeniser(tmp_path: Path, *specs: TensorSpec, **options: Any) -> TextTokeniser:
    file = write_tokenizer(tmp_path / "tokenizer.json")
    return TextTokeniser(Tokenise(tokenizer=str(file), **options), specs or (IDS, MASK))


def test_text_tokeniser_creates_inputs_of_model(tmp_path: Path) -> None:
    found = tokeniser(tmp_path, IDS, MASK, TYPES)(b"A very GOOD song")
    assert found["input_ids"].tolist() == [[5, 6, 2, 1]]
    assert found["attention_mask"].tolist() == [[1, 1, 1, 1]]
    assert (found["token_type_ids"].dtype, found["token_type_ids"].tolist()) == (np.int32, [[0, 0, 0, 0]])
    assert list(tokeniser(tmp_path, IDS)(b"film")) == ["input_ids"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"good " * 4, "has 4 tokens, but at most 3"),
        (b"g" * 1000, "has 1000 bytes, but at most 192"),
        (b"good \xff", "not UTF-8"),
    ],
)
def test_text_tokeniser_refuses_invalid_and_long_texts(tmp_path: Path, value: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        tokeniser(tmp_path, max_tokens=3)(value)
    short = [replace(spec, longest=3) for spec in (IDS, MASK)]  # the model has no more positions
    with pytest.raises(InvalidRequest, match=message):
        tokeniser(tmp_path, *short)(value)


def test_text_tokeniser_truncates_if_declared(tmp_path: Path) -> None:
    cut = tokeniser(tmp_path, max_tokens=3, cut=True)
    assert cut(b"good " * 4)["input_ids"].tolist() == [[2, 2, 2]]
    assert cut("é".encode() * 1000)["input_ids"].tolist() == [[1]]


def test_text_tokeniser_refuses_other_inputs_and_broken_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="this one has x"):
        tokeniser(tmp_path, GREY)
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    with pytest.raises(InvalidRequest, match=r"broken\.json is not a tokenizer"):
        TextTokeniser(Tokenise(tokenizer=str(broken)), (IDS,))


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_image_decoder_normalises_pixels(form: str) -> None:
    pixels = np.full((8, 8, 3), (255, 0, 0), np.uint8)
    decode = ImageDecoder(DecodeImage(width=2, height=2, mean=(0.5, 0, 0), std=(0.5, 1, 1)), (RGB,))
    found = decode(encoded_image(pixels, form))["x"]
    assert (found.shape, found.dtype) == ((1, 3, 2, 2), np.float32)
    np.testing.assert_allclose(found[0, :, 0, 0], [1.0, 0.0, 0.0], atol=0.02)


def test_image_decoder_keeps_pixels_of_matching_size() -> None:
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    found = ImageDecoder(DecodeImage(width=4, height=4, channels="grey", scale=1.0), (GREY,))(encoded_image(pixels))
    np.testing.assert_array_equal(found["x"][0, 0], pixels)


def test_image_decoder_crops_centre() -> None:
    pixels = np.zeros((4, 12), np.uint8)
    pixels[:, 4:8] = 200
    step = DecodeImage(width=4, height=4, channels="grey", shorter_side=4, scale=1.0)
    np.testing.assert_array_equal(ImageDecoder(step, (GREY,))(encoded_image(pixels))["x"], np.full((1, 1, 4, 4), 200))


@pytest.mark.parametrize("layout", ["chw", "hwc"])
def test_image_decoder_supports_both_layouts(layout: Any) -> None:
    shape = (-1, 3, 2, 2) if layout == "chw" else (-1, 2, 2, 3)
    spec = TensorSpec(name="x", datatype="FP32", shape=shape)
    decode = ImageDecoder(DecodeImage(width=2, height=2, layout=layout), (spec,))
    assert decode(encoded_image(np.zeros((2, 2, 3), np.uint8)))["x"].shape == (1, *shape[1:])


def test_image_decoder_refuses_invalid_images() -> None:
    decode = ImageDecoder(DecodeImage(width=4, height=4, channels="grey"), (GREY,))
    whole = encoded_image(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    for value, message in (
        (b"no image", "cannot be decoded as PNG or JPEG: unknown file format"),
        (b"", "unknown file format"),
        (whole[: len(whole) // 2], "cannot be decoded"),
        (encoded_image(np.zeros((4, 4), np.uint16)), "more than 8 bits"),
        (_claims_to_be_huge(whole), "pixels: at most"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            decode(value)


@pytest.mark.parametrize("missing", range(1, 25))
def test_image_decoder_refuses_a_png_without_its_end(missing: int) -> None:
    decode = ImageDecoder(DecodeImage(width=4, height=4, channels="grey"), (GREY,))
    whole = encoded_image(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    with pytest.raises(InvalidRequest, match="cannot be decoded"):
        decode(whole[:-missing])


def _claims_to_be_huge(png: bytes) -> bytes:
    import zlib

    head = b"IHDR" + (8000).to_bytes(4) * 2 + png[24:29]
    return png[:12] + head + zlib.crc32(head).to_bytes(4) + png[33:]


def test_image_decoder_refuses_unsuitable_inputs() -> None:
    with pytest.raises(InvalidRequest, match=r"4x4 grey images as chw are FP32 \[-1, 1, 4, 4\]"):
        ImageDecoder(DecodeImage(width=4, height=4, channels="grey"), (RGB,))
    with pytest.raises(InvalidRequest, match="must have one input"):
        ImageDecoder(DecodeImage(width=4, height=4), (IDS, MASK))
    with pytest.raises(InvalidRequest, match="3 numbers for rgb images, not 2"):
        ImageDecoder(DecodeImage(width=2, height=2, mean=(1, 2)), (RGB,))


ONE_TOKEN = np.ones(2, np.int64)


def test_softmax_and_best_classes_convert_scores(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("bad\nfair\ngood\n")
    scores = {"scores": np.array([[0.0, 1.0, 3.0], [1000.0, 0.0, 0.0]], np.float32)}
    likely = SoftmaxScores()(scores, "scores", ONE_TOKEN)["scores"]
    np.testing.assert_allclose(likely.sum(axis=1), 1.0, rtol=1e-6)
    assert likely.argmax(axis=1).tolist() == [2, 0]
    assert BestClasses(TopClasses(count=2))(scores, "scores", ONE_TOKEN)["class"].tolist() == [[2, 1], [0, 1]]
    named = BestClasses(TopClasses(labels=str(labels)))(scores, "scores", ONE_TOKEN)
    assert named["label"].tolist() == [[b"good"], [b"bad"]]
    with pytest.raises(InvalidRequest, match="3 labels for 2 scores"):
        BestClasses(TopClasses(labels=str(labels)))({"scores": np.zeros((1, 2))}, "scores", ONE_TOKEN)


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("mean", [[2.0, 3.0], [5.0, 6.0]]), ("cls", [[1.0, 2.0], [5.0, 6.0]]), ("last", [[3, 4], [5, 6]])],
)
def test_pooled_tokens_ignore_padding(mode: Literal["mean", "cls", "last"], wanted: list[list[float]]) -> None:
    tokens = np.array([[[1, 2], [3, 4]], [[5, 6], [1e9, 1e9]]], np.float32)
    found = PooledTokens(PoolTokens(mode=mode))({"hidden": tokens, "other": tokens}, "hidden", np.array([2, 1]))
    assert set(found) == {"sentence_embedding", "other"}
    assert found["sentence_embedding"].tolist() == wanted
    scaled = PooledTokens(PoolTokens(mode=mode, normalise=True))({"hidden": tokens}, "hidden", np.array([2, 1]))
    np.testing.assert_allclose(np.linalg.norm(scaled["sentence_embedding"], axis=1), 1.0, rtol=1e-6)


def test_text_tokeniser_gives_positions_and_refuses_no_tokens(tmp_path: Path) -> None:
    positions = replace(IDS, name="position_ids")
    assert tokeniser(tmp_path, IDS, positions)(b"a good film")["position_ids"].tolist() == [[0, 1, 2]]
    with pytest.raises(InvalidRequest, match="has no tokens"):
        tokeniser(tmp_path)(b" ")


def test_text_tokeniser_explains_inputs_of_generators(tmp_path: Path) -> None:
    past = TensorSpec(name="past_key_values.0.key", datatype="FP32", shape=(-1, 2, -1, 8))
    with pytest.raises(InvalidRequest, match="generates step by step, export it without past key values"):
        tokeniser(tmp_path, IDS, MASK, past)


def test_read_class_names_keeps_empty_lines(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("bad\n\n good \n\n")
    assert read_class_names(file) == ("bad", "", "good")
    file.write_text("\n")
    with pytest.raises(InvalidRequest, match="has no class names"):
        read_class_names(file)
    with pytest.raises(OperatorError, match=r"cannot read .*nowhere\.txt: No such file"):
        read_class_names(tmp_path / "nowhere.txt")
