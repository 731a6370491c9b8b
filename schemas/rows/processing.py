"""What is done to a text or an image before a model computes it, and to its scores after: plain data.

A registration declares it, an architecture keeps it. Files that it needs are named by a path while it is declared, and
by the SHA-256 of the artifact once it is registered.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec.structs import replace

from schemas.rows.tensor_spec import TensorSpec

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Tokenise(msgspec.Struct, frozen=True, kw_only=True, tag_field="step", tag="tokenise", forbid_unknown_fields=True):
    """A text made token ids: `input_ids`, `attention_mask` and `token_type_ids`, as far as the model takes them."""

    tokenizer: str
    """File `tokenizer.json` of the `tokenizers` package."""
    max_tokens: Positive = 512
    """Most tokens of a text, those that the tokenizer adds included."""
    cut: bool = False
    """Whether a longer text is cut; else it is refused."""
    input: str = "text"
    """Name under which clients send texts."""


class DecodeImage(msgspec.Struct, frozen=True, kw_only=True, tag_field="step", tag="image", forbid_unknown_fields=True):
    """A PNG or JPEG file made an array of numbers: `(pixel * scale - mean) / std`."""

    width: Positive
    height: Positive
    channels: Literal["grey", "rgb"] = "rgb"
    shorter_side: Positive | None = None
    """Length that the shorter side is resized to before the centre is cut out; None: the image is stretched to fit."""
    scale: float = 1 / 255
    mean: tuple[float, ...] = ()
    """A number for each channel; none: 0."""
    std: tuple[float, ...] = ()
    """A number for each channel; none: 1."""
    layout: Literal["chw", "hwc"] = "chw"
    input: str = "image"
    """Name under which clients send images."""


class Softmax(msgspec.Struct, frozen=True, tag_field="step", tag="softmax", forbid_unknown_fields=True):
    """Scores made probabilities, in their place."""


class TopClasses(msgspec.Struct, frozen=True, kw_only=True, tag_field="step", tag="top", forbid_unknown_fields=True):
    """The classes with the highest scores, the best first, as outputs beside the scores: `class`, or `label`."""

    count: Positive = 1
    labels: str = ""
    """Text file with the name of a class on each line; none: classes are their numbers."""


class Processing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model's variants do beside computing it."""

    before: Tokenise | DecodeImage
    """The step that makes tensors of the one BYTES input that clients send."""
    after: tuple[Softmax | TopClasses, ...] = ()
    """Steps that follow, in order, on the output that holds the scores."""
    tensors: tuple[TensorSpec, ...] = ()
    """Inputs of the model itself, as found at registration."""
    scores: str = ""
    """The output that holds the scores, as found at registration."""

    @property
    def declared(self) -> "Processing":
        """The same as it was declared, without what was found."""
        return replace(self, tensors=(), scores="")

    def with_files(self, found: Callable[[str], str]) -> "Processing":
        """The same with its files named as `found` says."""
        before, after = self.before, list(self.after)
        if isinstance(before, Tokenise):
            before = replace(before, tokenizer=found(before.tokenizer))
        for index, step in enumerate(after):
            if isinstance(step, TopClasses) and step.labels:
                after[index] = replace(step, labels=found(step.labels))
        return replace(self, before=before, after=tuple(after))
