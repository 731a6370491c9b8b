"""Processing steps before a model (texts and images to tensors) and after it (on its scores): plain data.

A registration declares the steps, and the architecture stores them. Files are named by path in a declaration, and by
the SHA-256 of the artifact after registration.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec.structs import replace

from schemas.rows.tensor_spec import TensorSpec

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Tokenise(msgspec.Struct, frozen=True, kw_only=True, tag_field="step", tag="tokenise", forbid_unknown_fields=True):
    """Convert a text to the model's inputs among `input_ids`, `attention_mask` and `token_type_ids`."""

    tokenizer: str
    """File `tokenizer.json` of the `tokenizers` package."""
    max_tokens: Positive = 512
    """Maximum number of tokens of a text, including the tokens that the tokenizer adds."""
    cut: bool = False
    """True: a longer text is truncated; false: it is refused."""
    input: str = "text"
    """Name under which clients send texts."""


class DecodeImage(msgspec.Struct, frozen=True, kw_only=True, tag_field="step", tag="image", forbid_unknown_fields=True):
    """Convert a PNG or JPEG file to an array of numbers: `(pixel * scale - mean) / std`."""

    width: Positive
    height: Positive
    channels: Literal["grey", "rgb"] = "rgb"
    shorter_side: Positive | None = None
    """Length to which the shorter side is resized before the centre is cropped; null: the image is stretched to the
    size."""
    scale: float = 1 / 255
    mean: tuple[float, ...] = ()
    """One number per channel; empty: 0."""
    std: tuple[float, ...] = ()
    """One number per channel; empty: 1."""
    layout: Literal["chw", "hwc"] = "chw"
    input: str = "image"
    """Name under which clients send images."""


class Softmax(msgspec.Struct, frozen=True, tag_field="step", tag="softmax", forbid_unknown_fields=True):
    """Replace scores by probabilities."""


class TopClasses(msgspec.Struct, frozen=True, kw_only=True, tag_field="step", tag="top", forbid_unknown_fields=True):
    """Add the classes with the highest scores, best first, as the output `class`, or `label` if they have names."""

    count: Positive = 1
    labels: str = ""
    """Text file with the name of one class per line; empty: classes are numbers."""


class Processing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Processing steps of a model's variants."""

    before: Tokenise | DecodeImage
    """Step that makes the model's tensors from the only BYTES input that clients send."""
    after: tuple[Softmax | TopClasses, ...] = ()
    """Steps on the output with the scores, in order."""
    tensors: tuple[TensorSpec, ...] = ()
    """Inputs of the model itself, found at registration."""
    scores: str = ""
    """Name of the output with the scores, found at registration."""

    @property
    def declared(self) -> "Processing":
        """Declared steps, without the values found at registration."""
        return replace(self, tensors=(), scores="")

    def with_files(self, found: Callable[[str], str]) -> "Processing":
        """Return a copy in which `found` replaces the name of each file."""
        before, after = self.before, list(self.after)
        if isinstance(before, Tokenise):
            before = replace(before, tokenizer=found(before.tokenizer))
        for index, step in enumerate(after):
            if isinstance(step, TopClasses) and step.labels:
                after[index] = replace(step, labels=found(step.labels))
        return replace(self, before=before, after=tuple(after))
