"""Labelled inputs of the zoo's tasks, divided into inputs for accuracy and inputs for calibration.

The models were trained with the same division (flag `te`): `labelled` returns only inputs that no model has seen in
training, `calibration` only inputs of the training part. So accuracy is never measured on data that tuned a model.

Sentiment inputs are token ids cut or padded to `TOKENS` positions. Longer texts (3.5 % of them) keep their beginning
and the closing [SEP]. This costs no accuracy and saves a quarter of the computation compared with 64 positions. With
one fixed length, queries of different clients can share a batch.

Clients of some tasks send texts and image files. The data of `sentiment` is stored as token ids, which MiniLM's own
tokenizer decodes to texts (lower case, with the same ids). The images of `mnist` are encoded as PNG.
"""

import io
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import OperatorError
from schemas.rows.catalog import DecodeImage, Processing, Tokenise, TopClasses
from schemas.tensors import bytes_array

DATA: Final = Path(__file__).parent / "data"


TOKENIZER: Final = DATA / "tokenizer.json"
TEXTS: Final = Processing(
    before=Tokenise(tokenizer=str(TOKENIZER)), after=(TopClasses(labels=str(DATA / "sentiment_classes.txt")),)
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


TASKS: Final = ("sentiment", "mnist", "digits")
ENCODED_TASKS: Final = ("sentiment-text", "mnist-image")
"""Tasks whose clients send texts or image files, with the same data and some of the same models."""
ALL_TASKS: Final = TASKS + ENCODED_TASKS
TOKENS: Final = 48

_SEP: Final = 102
_FILES: Final = {
    "sentiment": "sent.npz",
    "sentiment-text": "sent.npz",
    "mnist": "mnist.npz",
    "mnist-image": "mnist.npz",
    "digits": "digits.npz",
}
_WHITE: Final = {"mnist": 255.0, "digits": 16.0}
_CALIBRATION_SEED: Final = 0

Inputs = dict[str, NDArray[Any]]


def labelled(task: str) -> tuple[Inputs, NDArray[np.int64]]:
    """Return the held-out inputs of a task by tensor name, and the class of each."""
    data = _load(task)
    held_out = np.flatnonzero(data["te"])
    return _inputs(task, data, held_out), data["y"][held_out]


def example(task: str) -> Inputs:
    """Return one held-out input of a task."""
    data = _load(task)
    return _inputs(task, data, np.flatnonzero(data["te"])[:1])


def calibration(task: str, count: int = 128) -> Inputs:
    """Return `count` inputs of the training part, the same at each call."""
    data = _load(task)
    training = np.flatnonzero(~data["te"])
    return _inputs(task, data, np.random.default_rng(_CALIBRATION_SEED).permutation(training)[:count])


@lru_cache
def _load(task: str) -> dict[str, NDArray[Any]]:
    file = _FILES.get(task)
    if file is None:
        raise OperatorError(f"the zoo has no task {task!r}; it has {', '.join(ALL_TASKS)}")
    with np.load(DATA / file) as archive:
        return {name: archive[name] for name in archive.files}


def _inputs(task: str, data: dict[str, NDArray[Any]], rows: NDArray[np.int64]) -> Inputs:
    if task == "sentiment-text":
        return {"text": as_texts(data["ids"][rows], data["mask"][rows])}
    if task == "mnist-image":
        return {"image": as_png(data["X"][rows])}
    if task != "sentiment":
        return {"input": (data["X"][rows] / _WHITE[task]).astype(np.float32)}
    whole = data["mask"][rows]
    mask = whole[:, :TOKENS].astype(np.int64)
    ids = data["ids"][rows, :TOKENS].astype(np.int64)
    ids[whole.sum(axis=1) > TOKENS, -1] = _SEP
    return {"input_ids": ids, "attention_mask": mask}
