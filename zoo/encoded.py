"""Labelled data in the form that clients send: texts and image files.

The data of `sentiment` is stored as token ids. MiniLM's own tokenizer decodes them to texts (lower case, with the same
ids). The images of `mnist` are encoded as PNG.
"""

import io
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.rows.processing import DecodeImage, Processing, Tokenise, TopClasses
from schemas.tensors import bytes_array
from zoo.data_folder import DATA

TOKENIZER: Final = DATA / "tokenizer.json"
TEXTS: Final = Processing(
    before=Tokenise(tokenizer=str(TOKENIZER)),
    after=(TopClasses(labels=str(DATA / "sentiment_classes.txt")),),
)
IMAGES: Final = Processing(before=DecodeImage(width=28, height=28, channels="grey"), after=(TopClasses(),))


def as_texts(ids: NDArray[Any], mask: NDArray[Any]) -> NDArray[Any]:
    """Decode token ids to texts, as BYTES."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    rows = [row[:count] for row, count in zip(ids.tolist(), mask.sum(axis=1).tolist(), strict=True)]
    return bytes_array(tokenizer.decode_batch(rows))


def as_png(images: NDArray[np.uint8]) -> NDArray[Any]:
    """Encode grey images `[count, 1, height, width]` as PNG, as BYTES."""
    from PIL import Image

    files: list[bytes] = []
    for pixels in images:
        file = io.BytesIO()
        Image.fromarray(pixels[0]).save(file, "PNG")
        files.append(file.getvalue())
    return bytes_array(files)
