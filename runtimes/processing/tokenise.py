"""Conversion of a text to token ids, with a tokenizer.json."""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from runtimes.padding import Arrays
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.processing import Tokenise
from schemas.rows.tensor_spec import TensorSpec
from schemas.tensors import DTYPES

IDS: Final = "input_ids"
MASK: Final = "attention_mask"
TYPES: Final = "token_type_ids"
_BYTES_A_TOKEN: Final = 64
"""Bytes per allowed token above which a text is rejected, or cut, without tokenising it."""
_PADDING: Final = ("[PAD]", "<pad>", "<|endoftext|>")


class TextTokeniser:
    """Tokeniser of one text at a time; threads may share it."""

    def __init__(self, step: Tokenise, tensors: Sequence[TensorSpec]) -> None:
        """Load the tokenizer; `tensors` are the inputs of the model.

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
        self._step = step
        self._dtypes = {spec.name: DTYPES[spec.datatype] for spec in tensors}
        unknown = set(self._dtypes) - {IDS, MASK, TYPES}
        if IDS not in self._dtypes or unknown:
            taken = ", ".join(self._dtypes)
            raise InvalidRequest(
                f"a model of texts must have the input {IDS}, and optionally {MASK} and {TYPES}; this one has {taken}"
            )
        self.fill = {IDS: padding["pad_id"] if padding else self._padding_id()}
        """Padding values other than 0, by tensor name."""

    def __call__(self, value: bytes) -> Arrays:
        """Tokenise a text as a batch of one.

        Raises:
            InvalidRequest: it is not UTF-8, or too long.
        """
        encoding = self._tokenizer.encode(self._text(value))
        count, most = len(encoding.ids), self._most
        if count > most:
            raise InvalidRequest(f"the text has {count} tokens, but at most {most} are allowed: shorten it")
        found = {IDS: encoding.ids, MASK: encoding.attention_mask, TYPES: encoding.type_ids}
        return {name: np.array([found[name]], dtype) for name, dtype in self._dtypes.items()}

    def _text(self, value: bytes) -> str:
        most = _BYTES_A_TOKEN * self._most
        if len(value) > most and not self._step.cut:
            raise InvalidRequest(f"the text has {len(value)} bytes, but at most {most} are allowed: shorten it")
        try:
            return value.decode()[:most]
        except UnicodeError as error:
            raise InvalidRequest(f"the text is not UTF-8: {error}") from None

    def _padding_id(self) -> int:
        ids = (self._tokenizer.token_to_id(token) for token in _PADDING)
        return next((number for number in ids if number is not None), 0)


def _load(file: Path) -> Any:
    # Each slot computes in its own thread; the package's thread pool would take the cores of the other slots.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        tokenizers = importlib.import_module("tokenizers")
    except ImportError as error:
        raise OperatorError(f"texts need the package tokenizers ({error}): pip install 'infaas[text]'") from error
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises bare `Exception` for every error
        raise InvalidRequest(f"{file.name} is not a tokenizer.json: {error}") from error
