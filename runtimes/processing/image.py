"""Decoding of a PNG or JPEG file into an array, with Pillow."""

import importlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtimes.padding import Arrays
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.processing import DecodeImage
from schemas.rows.tensor_spec import TensorSpec
from schemas.tensors import DTYPES

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
