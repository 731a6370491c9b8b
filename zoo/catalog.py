"""Lists the models of the zoo: a few tasks, and for each several architectures, from cheap to accurate."""

from pathlib import Path
from typing import Final

import msgspec

from schemas.errors import OperatorError
from schemas.rows.processing import Processing
from zoo.data_folder import DATA
from zoo.encoded import IMAGES, TEXTS


class ZooModel(msgspec.Struct, frozen=True):
    """An architecture of the zoo."""

    architecture: str
    task: str
    file: Path | None
    """Model file; None: it is built from the MiniLM pack."""
    minilm_depth: int = 0
    """Layers of a model that is built from the MiniLM pack."""
    processing: Processing | None = None
    """What makes its tensors of a text or an image, where its task takes such."""
    variants: tuple[str, ...] = ("onnx-int8dyn", "onnx-int8static")
    """Variants made besides the fp32 one. Those by which a model is known to gain nothing are left out, but for one:
    the ResNet's dynamic int8, which is slower and no better, so that there is something never to choose."""


_STATIC: Final = ("onnx-int8static",)
_DYNAMIC: Final = ("onnx-int8dyn",)

MODELS: Final = (
    ZooModel("digits-linear", "digits", DATA / "digits_linear.onnx", variants=_STATIC),
    ZooModel("digits-mlp", "digits", DATA / "digits_mlp.onnx", variants=_STATIC),
    ZooModel("digits-cnn", "digits", DATA / "digits_cnn.onnx", variants=_STATIC),
    ZooModel("mnist-linear", "mnist", DATA / "mnist_linear.onnx", variants=_STATIC),
    ZooModel("mnist-mlp", "mnist", DATA / "mnist_mlp.onnx", variants=_STATIC),
    ZooModel("mnist-cnn-s", "mnist", DATA / "mnist_cnn_s.onnx", variants=_STATIC),
    ZooModel("mnist-cnn-m", "mnist", DATA / "mnist_cnn_m.onnx", variants=_STATIC),
    ZooModel("mnist-resnet", "mnist", DATA / "mnist_resnet.onnx"),
    ZooModel("fasttext", "sentiment", DATA / "sent_fasttext.onnx", variants=_DYNAMIC),
    ZooModel("textcnn", "sentiment", DATA / "sent_textcnn.onnx", variants=_STATIC),
    ZooModel("minilm-l3", "sentiment", None, 3, variants=_DYNAMIC),
    ZooModel("minilm-l6", "sentiment", None, 6, variants=_DYNAMIC),
    ZooModel("fasttext-text", "sentiment-text", DATA / "sent_fasttext.onnx", processing=TEXTS, variants=_DYNAMIC),
    ZooModel("textcnn-text", "sentiment-text", DATA / "sent_textcnn.onnx", processing=TEXTS, variants=_STATIC),
    ZooModel("minilm-l6-text", "sentiment-text", None, 6, TEXTS, variants=_DYNAMIC),
    ZooModel("mnist-mlp-image", "mnist-image", DATA / "mnist_mlp.onnx", processing=IMAGES, variants=_STATIC),
    ZooModel("mnist-cnn-s-image", "mnist-image", DATA / "mnist_cnn_s.onnx", processing=IMAGES, variants=_STATIC),
    ZooModel("mnist-cnn-m-image", "mnist-image", DATA / "mnist_cnn_m.onnx", processing=IMAGES, variants=_STATIC),
)


def models_of(tasks: tuple[str, ...]) -> tuple[ZooModel, ...]:
    """Return the models of the named tasks, of all if none is named.

    Raises:
        OperatorError: the zoo has no such task.
    """
    known = tuple(dict.fromkeys(model.task for model in MODELS))
    for task in tasks:
        if task not in known:
            raise OperatorError(f"the zoo has no task {task!r}; it has {', '.join(known)}")
    return tuple(model for model in MODELS if not tasks or model.task in tasks)
