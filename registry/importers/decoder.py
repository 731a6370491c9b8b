"""Imports a decoder of Hugging Face's exporter: a copy of its graph, with its tokenizer and settings as metadata.

These files of Hugging Face's libraries are read: `tokenizer.json`; the ends of an answer in
`generation_config.json`, else in `config.json`; the template of chats in `chat_template.jinja`, else in
`tokenizer_config.json`, which also names the special tokens.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from runtimes.decoder.settings import DecoderSettings
from schemas.errors import InvalidRequest

_LENGTHS: Final = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length")
_SPECIAL: Final = ("bos_token", "eos_token", "unk_token", "pad_token")


def import_decoder(file: Path, folder: Path, config: dict[str, Any], target: Path) -> list[str]:
    """Write a decoder in one file; return notes for the user who registers it.

    Args:
        file: ONNX file of the graph.
        folder: folder with the settings.
        config: content of `config.json`.
        target: file to write.

    Raises:
        InvalidRequest: the folder has no tokenizer, or a file is damaged.
    """
    from registry.pipeline.decoder_file import write_decoder

    settings = _settings(folder, config)
    notes = write_decoder(file, settings, target)
    notes.append(f"a language model: prompts and answers have {settings.context_tokens or 'any number of'} tokens")
    if not settings.chat_template:
        notes.append("it has no template for chats (chat_template.jinja), so it answers prompts only")
    if not settings.ends:
        notes.append("no token ends an answer (eos_token_id), so answers have the maximum length")
    return notes


def _settings(folder: Path, config: dict[str, Any]) -> DecoderSettings:
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise InvalidRequest(f"{folder.name} holds a language model without its tokenizer: add {tokenizer.name}")
    generation, own = _optional(folder / "generation_config.json"), _optional(folder / "tokenizer_config.json")
    ends = generation.get("eos_token_id", config.get("eos_token_id"))
    lengths = [config[name] for name in _LENGTHS if isinstance(config.get(name), int)]
    return DecoderSettings(
        tokenizer=_text(tokenizer),
        ends=tuple(ends) if isinstance(ends, list) else () if ends is None else (int(ends),),
        context_tokens=lengths[0] if lengths else None,
        chat_template=_template(folder / "chat_template.jinja", own.get("chat_template")),
        special_tokens={name: text for name in _SPECIAL if (text := _special_text(own.get(name)))},
    )


def _optional(file: Path) -> dict[str, Any]:
    return read_config(file) if file.is_file() else {}


def read_config(file: Path) -> dict[str, Any]:
    """Return the content of a configuration file. Raises `InvalidRequest`."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidRequest(f"{file} is not a configuration: {error}") from error


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise InvalidRequest(f"{file.name} cannot be read: {error}") from error


def _template(file: Path, configured: Any) -> str:
    if file.is_file():
        return _text(file)
    if isinstance(configured, list):  # several, by name
        named = {str(one.get("name")): one.get("template") for one in configured if isinstance(one, dict)}
        configured = named.get("default")
    return configured if isinstance(configured, str) else ""


def _special_text(token: Any) -> str:
    """Return the text of a special token, which is written as a text or as an object."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else ""
