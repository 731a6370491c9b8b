"""Reads the modules of a sentence encoder, as the sentence-transformers library writes them beside a model.

    modules.json          the modules, in order: a Transformer, its Pooling, perhaps Normalize
    1_Pooling/config.json how the vectors of the tokens become one

Other modules, such as Dense, have weights of their own, and are refused.
"""

from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from schemas.errors import InvalidRequest
from schemas.rows.catalog import PoolTokens

MODULES: Final = "modules.json"
_MODES: Final = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "mean": "mean",
    "cls": "cls",
    "lasttoken": "last",
}
"""Modes by the keys of older configurations, and by the values of newer ones."""
_INSTEAD: Final = "export the whole encoder by `optimum-cli export onnx`, and register the ONNX file with --tokenizer"


class _Module(msgspec.Struct):
    """One entry of `modules.json`."""

    path: str
    type: str


class SentenceEncoder(NamedTuple):
    """Modules of a sentence encoder."""

    transformer: Path
    """Folder of the model."""
    pool: PoolTokens
    max_tokens: int | None
    """Largest number of tokens of a text; None: the model's own limit."""


def read_modules(folder: Path) -> SentenceEncoder | None:
    """Return the modules that a folder lists; None if it lists none.

    Raises:
        InvalidRequest: a module is unknown, or its configuration cannot be read.
    """
    if not (folder / MODULES).is_file():
        return None
    modules = _decoded(folder / MODULES, list[_Module])
    kinds = [module.type.rpartition(".")[2] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        raise InvalidRequest(
            f"{MODULES} lists {', '.join(kinds)}; only Transformer, Pooling and Normalize can be read: {_INSTEAD}"
        )
    transformer, pooling = (_inside(folder, module.path) for module in modules[:2])
    mode = _mode(_decoded(pooling / "config.json", dict[str, Any]))
    limits = transformer / "sentence_bert_config.json"
    most = _decoded(limits, dict[str, Any]).get("max_seq_length") if limits.is_file() else None
    return SentenceEncoder(transformer, PoolTokens(mode=mode, normalise=len(kinds) == 3), most and int(most))


def _mode(config: dict[str, Any]) -> Any:
    named = config.get("pooling_mode")
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    chosen = [str(named)] if named else chosen
    if len(chosen) != 1 or chosen[0] not in _MODES:
        raise InvalidRequest(
            f"pooling by {', '.join(chosen) or 'nothing'} is not supported, only by mean, cls or last: {_INSTEAD}"
        )
    return _MODES[chosen[0]]


def _inside(folder: Path, path: str) -> Path:
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise InvalidRequest(f"{MODULES} names {path[:80]!r}, which is outside of its folder")
    return folder / path


def _decoded(file: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidRequest(f"{file.name} of the sentence encoder cannot be read: {error}") from error
