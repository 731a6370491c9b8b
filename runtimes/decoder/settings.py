"""Settings of a decoder. They are metadata of its ONNX file, which conversions keep, since an artifact is one file."""

from collections.abc import Mapping
from typing import Final

import msgspec

from schemas.errors import InvalidRequest

METADATA: Final = "infaas.decoder"
"""Key of the settings, in JSON, in the metadata of the file."""


class DecoderSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Settings of a decoder beside its graph."""

    tokenizer: str
    """Content of `tokenizer.json`."""
    ends: tuple[int, ...] = ()
    """Tokens that end an answer."""
    context_tokens: int | None = None
    """Maximum tokens of a prompt and its answer; None: the model states none."""
    chat_template: str = ""
    special_tokens: dict[str, str] = {}
    """Texts of special tokens by the names that a template uses, such as `bos_token`."""


def read_settings(metadata: Mapping[str, str]) -> DecoderSettings:
    """Return the settings in the metadata of an ONNX file.

    Raises:
        InvalidRequest: there are none, or damaged ones.
    """
    if METADATA not in metadata:
        raise InvalidRequest(
            "the file is a language model without a tokenizer: register the folder that holds it together with "
            "tokenizer.json and config.json"
        )
    try:
        return msgspec.json.decode(metadata[METADATA], type=DecoderSettings)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"the settings of the language model are damaged: {error}") from error
