"""Models of the zoo: a few tasks, each with several architectures from cheap to accurate."""

from pathlib import Path
from typing import Final

import msgspec

from schemas.errors import OperatorError
from schemas.rows.catalog import Processing
from zoo.chat import GEMMA, SMOLLM
from zoo.chat import TASK as CHAT
from zoo.samples import DATA, IMAGES, TEXTS
from zoo.sentences import TASK as SENTENCES


class ZooModel(msgspec.Struct, frozen=True):
    """An architecture of the zoo."""

    architecture: str
    task: str
    file: Path | None
    """Model file; None: it is built from the MiniLM pack, or from installed weights."""
    minilm_depth: int = 0
    """Number of layers of a model built from the MiniLM pack."""
    processing: Processing | None = None
    """Steps that make tensors from a text or an image, if the task takes such inputs."""
    variants: tuple[str, ...] = ("onnx-int8dyn", "onnx-int8static")
    """Variants besides FP32. Variants that bring a model no gain are left out.

    The ResNet's dynamic INT8 variant is kept although it is slower and no more accurate: it is an example of a variant
    that is never chosen.
    """
    on_demand: bool = False
    """True if the model is registered only if its task is named, since it needs weights that are installed extra."""
    by_name: bool = False
    """True if it is registered only if it is named itself, since its weights have terms of their own."""


_STATIC: Final = ("onnx-int8static",)
_DYNAMIC: Final = ("onnx-int8dyn",)
_GGUF: Final = ("llamacpp-q8-0", "llamacpp-q4-0")

# The first model of a task is registered first, so it is small. The README's queries need the accuracy of these.
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
    ZooModel("textcnn-text", "sentiment-text", DATA / "sent_textcnn.onnx", processing=TEXTS, variants=_STATIC),
    ZooModel("fasttext-text", "sentiment-text", DATA / "sent_fasttext.onnx", processing=TEXTS, variants=_DYNAMIC),
    ZooModel("minilm-l6-text", "sentiment-text", None, 6, TEXTS, variants=_DYNAMIC),
    ZooModel("mnist-mlp-image", "mnist-image", DATA / "mnist_mlp.onnx", processing=IMAGES, variants=_STATIC),
    ZooModel("mnist-cnn-s-image", "mnist-image", DATA / "mnist_cnn_s.onnx", processing=IMAGES, variants=_STATIC),
    ZooModel("mnist-cnn-m-image", "mnist-image", DATA / "mnist_cnn_m.onnx", processing=IMAGES, variants=_STATIC),
    ZooModel("all-minilm-l6", SENTENCES, None, variants=_DYNAMIC, on_demand=True),
    ZooModel(SMOLLM, CHAT, None, variants=_GGUF, on_demand=True),
    ZooModel(GEMMA, CHAT, None, variants=_GGUF, on_demand=True, by_name=True),
)


def models_of(tasks: tuple[str, ...]) -> tuple[ZooModel, ...]:
    """Return the models of the named tasks, and those named themselves; if none is named, all but those on demand.

    Raises:
        OperatorError: the zoo has no such task and no such model.
    """
    known = tuple(dict.fromkeys(model.task for model in MODELS))
    models = [model.architecture for model in MODELS if model.by_name]
    for task in tasks:
        if task not in (*known, *models):
            raise OperatorError(f"the zoo has no task {task!r}; it has {', '.join((*known, *models))}")

    def is_wanted(model: ZooModel) -> bool:
        if model.by_name:
            return model.architecture in tasks
        return model.task in tasks or not (tasks or model.on_demand)

    return tuple(filter(is_wanted, MODELS))
