"""Steps of processing: token ids of a text, arrays of an image file; probabilities, best classes, and pooled vectors.

The tokenizer reads a tokenizer.json. Pillow decodes PNG and JPEG files.
"""

import importlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtimes.padding import Arrays
from runtimes.processing.outputs import CLASS, EMBEDDING, LABEL, OFFSETS
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import DecodeImage, PoolTokens, Tokenise, TopClasses
from schemas.signature import TensorSpec
from schemas.tensors import DTYPES, bytes_array

IDS: Final = "input_ids"
MASK: Final = "attention_mask"
TYPES: Final = "token_type_ids"
POSITIONS: Final = "position_ids"
BYTES_A_TOKEN: Final = 64
"""Bytes per allowed token above which a text is rejected, or cut, without tokenising it."""
_PADDING: Final = ("[PAD]", "<pad>", "<|endoftext|>")


class TextTokeniser:
    """Tokeniser of one text at a time; threads may share it."""

    def __init__(self, step: Tokenise, tensors: Sequence[TensorSpec], *, offsets: bool = False) -> None:
        """Load the tokenizer; `tensors` are the inputs of the model. With `offsets`, each row has them as well.

        Raises:
            OperatorError: the package is not installed.
            InvalidRequest: the file is no tokenizer, or the model needs inputs that no tokenizer produces.
        """
        longest = [spec.longest for spec in tensors if spec.longest is not None]
        self._most = min([step.max_tokens, *longest])
        self._tokenizer = _load(Path(step.tokenizer))
        padding = self._tokenizer.padding
        self._tokenizer.no_padding()
        if step.cut:
            self._tokenizer.enable_truncation(self._most)
        else:
            self._tokenizer.no_truncation()
        self._step, self._offsets = step, offsets
        self._dtypes = {spec.name: DTYPES[spec.datatype] for spec in tensors}
        unknown = set(self._dtypes) - {IDS, MASK, TYPES, POSITIONS}
        if IDS not in self._dtypes or unknown:
            raise InvalidRequest(_not_of_texts(list(self._dtypes)))
        self.fill = {IDS: padding["pad_id"] if padding else self._padding_id()}
        """Padding values other than 0, by tensor name."""

    def __call__(self, value: bytes) -> Arrays:
        """Tokenise a text as a batch of one.

        Raises:
            InvalidRequest: it is not UTF-8, or too long.
        """
        encoding = self._tokenizer.encode(self._text(value))
        count, most = len(encoding.ids), self._most
        if not count:
            raise InvalidRequest("the text has no tokens: send one with a word")
        if count > most:
            raise InvalidRequest(f"the text has {count} tokens, but at most {most} are allowed: shorten it")
        places = range(count)
        found = {IDS: encoding.ids, MASK: encoding.attention_mask, TYPES: encoding.type_ids, POSITIONS: places}
        row = {name: np.array([found[name]], dtype) for name, dtype in self._dtypes.items()}
        return row | {OFFSETS: np.array([encoding.offsets], np.int64)} if self._offsets else row

    def _text(self, value: bytes) -> str:
        most = BYTES_A_TOKEN * self._most
        if len(value) > most and not self._step.cut:
            raise InvalidRequest(f"the text has {len(value)} bytes, but at most {most} are allowed: shorten it")
        try:
            return value.decode()[:most]
        except UnicodeError as error:
            raise InvalidRequest(f"the text is not UTF-8: {error}") from None

    def _padding_id(self) -> int:
        ids = (self._tokenizer.token_to_id(token) for token in _PADDING)
        return next((number for number in ids if number is not None), 0)


def _not_of_texts(taken: Sequence[str]) -> str:
    text = (
        f"a model of texts must have the input {IDS}, and optionally {MASK}, {TYPES} and {POSITIONS}; this one has "
        f"{', '.join(taken)}"
    )
    if any("past" in name or "cache" in name for name in taken):
        return f"{text}: it generates step by step, export it without past key values (optimum: --task text-generation)"
    return f"{text}: register the model's file without a tokenizer, and clients send these tensors"


def _load(file: Path) -> Any:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{file.name} cannot be read: {error.strerror or error}") from error
    return load_tokenizer(content, file.name)


def load_tokenizer(content: bytes, name: str) -> Any:
    """Return the tokenizer of a tokenizer.json with this content and name.

    Raises:
        OperatorError: the package is not installed.
        InvalidRequest: it is no tokenizer.
    """
    # Each slot computes in its own thread; the package's thread pool would take the cores of the other slots.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        tokenizers = importlib.import_module("tokenizers")
    except ImportError as error:
        raise OperatorError(f"texts need the package tokenizers ({error}): pip install 'infaas[text]'") from error
    try:
        return tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the package raises bare `Exception` for every error
        raise InvalidRequest(f"{name} is not a tokenizer.json: {error}") from error


_FORMATS: Final = ("PNG", "JPEG")
_PNG_END: Final = b"IEND\xaeB`\x82"
"""Last chunk of a PNG. Pillow decodes a file without it, although its last rows may be damaged."""
_MODES: Final = {"grey": "L", "rgb": "RGB"}
_MOST_PIXELS: Final = 50_000_000
"""Most pixels of an image that is decoded, because a small file may claim any number."""


class ImageDecoder:
    """Decoder of one image at a time; threads may share it."""

    fill: Mapping[str, int] = {}
    """Empty: all images have one size, so nothing is padded."""

    def __init__(self, step: DecodeImage, tensors: Sequence[TensorSpec]) -> None:
        """Prepare for a model with the inputs `tensors`.

        Raises:
            OperatorError: Pillow is not installed.
            InvalidRequest: the model does not take an array of the step's shape.
        """
        try:
            self._pillow = importlib.import_module("PIL.Image")
        except ImportError as error:
            raise OperatorError(f"images need Pillow ({error}): pip install 'infaas[image]'") from error
        self._step = step
        self._spec = _only(tensors, step)
        self._mean = _per_channel(step.mean, step, 0.0)
        self._std = _per_channel(step.std, step, 1.0)

    def __call__(self, value: bytes) -> Arrays:
        """Decode an image as a batch of one.

        Raises:
            InvalidRequest: it is not a supported image.
        """
        pixels = np.asarray(self._sized(self._opened(value)), np.float32)
        pixels = (pixels.reshape(*pixels.shape[:2], -1) * self._step.scale - self._mean) / self._std
        if self._step.layout == "chw":
            pixels = pixels.transpose(2, 0, 1)
        return {self._spec.name: np.ascontiguousarray(pixels[None], DTYPES[self._spec.datatype])}

    def _opened(self, value: bytes) -> Any:
        try:
            image = self._pillow.open(io.BytesIO(value), formats=_FORMATS)
            if image.width * image.height > _MOST_PIXELS:
                raise InvalidRequest(f"the image has {image.width} x {image.height} pixels: at most {_MOST_PIXELS}")
            if image.format == "PNG" and _PNG_END not in value:
                raise InvalidRequest("the image cannot be decoded as PNG: its end is missing")
            if image.mode[:1] in "IF":
                raise InvalidRequest(f"the image has pixels of more than 8 bits ({image.mode}): convert it to 8 bits")
            return image.convert(_MODES[self._step.channels])
        except InvalidRequest:
            raise
        except Exception as error:  # noqa: BLE001 - Pillow's decoders raise errors of any type for a damaged file
            raise InvalidRequest(f"the image cannot be decoded as PNG or JPEG: {_reason(error)}") from None

    def _sized(self, image: Any) -> Any:
        step, bilinear = self._step, self._pillow.Resampling.BILINEAR
        if step.shorter_side is None:
            return (
                image if image.size == (step.width, step.height) else image.resize((step.width, step.height), bilinear)
            )
        ratio = step.shorter_side / min(image.size)
        image = image.resize(tuple(max(1, round(side * ratio)) for side in image.size), bilinear)
        left, top = (image.width - step.width) // 2, (image.height - step.height) // 2
        return image.crop((left, top, left + step.width, top + step.height))


def _reason(error: Exception) -> str:
    text = str(error)
    return "unknown file format" if "cannot identify" in text else text[:200] or type(error).__name__


def _per_channel(numbers: Sequence[float], step: DecodeImage, default: float) -> NDArray[np.float32]:
    channels = 1 if step.channels == "grey" else 3
    if len(numbers) not in (0, 1, channels):
        raise InvalidRequest(
            f"mean and std must have {channels} numbers for {step.channels} images, not {len(numbers)}"
        )
    return np.array(numbers or (default,), np.float32)


def _only(tensors: Sequence[TensorSpec], step: DecodeImage) -> TensorSpec:
    channels = 1 if step.channels == "grey" else 3
    size = (step.height, step.width)
    shape = (-1, channels, *size) if step.layout == "chw" else (-1, *size, channels)
    if len(tensors) != 1:
        raise InvalidRequest(
            f"a model of images must have one input; this one has {', '.join(t.name for t in tensors)}"
        )
    spec = tensors[0]
    fits = len(spec.shape) == 4 and all(w in (-1, n) for w, n in zip(spec.shape, shape, strict=True))
    if not fits or DTYPES[spec.datatype].kind not in "fiu":
        raise InvalidRequest(
            f"{step.width}x{step.height} {step.channels} images as {step.layout} are FP32 {list(shape)}; the model's "
            f"input {spec.name!r} is {spec.datatype} {list(spec.shape)}"
        )
    return spec


_LEAST_NORM: Final = 1e-12
Lengths = NDArray[np.int64]
"""Number of tokens of each row; what lies behind them is padding."""


class SoftmaxScores:
    """Step that replaces scores by probabilities."""

    def __call__(self, outputs: Arrays, scores: str, _lengths: Lengths) -> Arrays:
        """Return the outputs with `scores` as probabilities."""
        values = outputs[scores].astype(np.float32, copy=False)
        grown = np.exp(values - values.max(axis=-1, keepdims=True))
        return outputs | {scores: grown / grown.sum(axis=-1, keepdims=True)}


class BestClasses:
    """Step that adds the classes with the highest scores, the best first."""

    def __init__(self, step: TopClasses) -> None:
        """Read the names of the classes, if the step has any.

        Raises:
            OperatorError: the file of the names cannot be read.
            InvalidRequest: it contains no name.
        """
        self._count = step.count
        self._labels = bytes_array(read_class_names(Path(step.labels))) if step.labels else None

    def __call__(self, outputs: Arrays, scores: str, _lengths: Lengths) -> Arrays:
        """Return the outputs with the best classes added."""
        values = outputs[scores]
        best = np.argsort(-values, axis=-1, kind="stable")[..., : self._count]
        if self._labels is None:
            return outputs | {CLASS: best.astype(np.int64)}
        if values.shape[-1] != len(self._labels):
            raise InvalidRequest(f"there are {len(self._labels)} labels for {values.shape[-1]} scores")
        return outputs | {LABEL: self._labels[best]}


class PooledTokens:
    """Step that replaces the vectors of a text's tokens by one vector, as sentence encoders do."""

    def __init__(self, step: PoolTokens) -> None:
        self._step = step

    def __call__(self, outputs: Arrays, scores: str, lengths: Lengths) -> Arrays:
        """Return the outputs with the vector of each text in place of `scores`."""
        others = dict(outputs)
        vectors = self._pooled(others.pop(scores).astype(np.float32, copy=False), lengths)
        if self._step.normalise:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _LEAST_NORM)
        return others | {EMBEDDING: vectors}

    def _pooled(self, tokens: NDArray[np.float32], lengths: Lengths) -> NDArray[np.float32]:
        match self._step.mode:
            case "cls":
                return tokens[:, 0]
            case "last":
                return tokens[np.arange(len(tokens)), lengths - 1]
            case "mean":
                real = np.arange(tokens.shape[1]) < lengths[:, None]
                return np.einsum("nth,nt->nh", tokens, real.astype(np.float32)) / lengths[:, None].astype(np.float32)


def read_class_names(file: Path) -> tuple[str, ...]:
    """Read the names of the classes, one per line, in the order of the scores.

    Raises:
        OperatorError: the file cannot be read.
        InvalidRequest: it is not text, or contains no name.
    """
    try:
        names = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except OSError as error:
        raise OperatorError(f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file.name} is not a text: {error}") from None
    while names and not names[-1]:
        names.pop()
    if not names:
        raise InvalidRequest(f"{file.name} has no class names; it must have one on each line")
    return tuple(names)
