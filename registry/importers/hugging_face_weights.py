"""Exports weights in safetensors to ONNX, by the class of `transformers` that the folder's configuration names.

Rules:
* No code of the folder runs: the class is one of `transformers`' own, and the weights are safetensors, never pickles.
* No file outside the folder is read: its owner may not be allowed to read files beside it, and an index of weights
  could name any file.
* All weights must be present: `transformers` would initialise missing ones at random.
* The exported model must compute the same as the class, also for other sizes than those of the export, or it is
  refused.
"""

import os
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from schemas.errors import InvalidRequest, OperatorError

SAFE_SUFFIX: Final = ".safetensors"
_INDEX_SUFFIX: Final = ".index.json"
ENCODER_ONLY: Final = "of its encoder and decoder only the encoder is served: it answers a vector for each token"
_POOLER: Final = "pooler."
"""Weights of the model's own pooling, which sentence encoders do not use and may lack."""
_BATCH: Final = 2
_LENGTH: Final = 8
_ONE_FILE: Final = 1 << 30
"""Largest size in bytes of weights inside the graph; protobuf is limited to 2 GB a file."""
_TOLERANCE: Final = 1e-3


class _WeightIndex(msgspec.Struct):
    """Index of weights in several files."""

    weight_map: dict[str, str]
    """Names of files by weight."""


def export_weights(folder: Path, config: Mapping[str, Any], target: Path, *, pooled: bool = False) -> str:
    """Export the model of a folder to ONNX in FP32, at `target`; return a note about it.

    A model whose tokens are `pooled` outside of it is exported without its own pooling, and of an encoder and decoder
    only the encoder is exported.

    Raises:
        InvalidRequest: the class is unknown, weights are missing or outside the folder, or the export fails.
        OperatorError: `transformers` or torch is not installed.
    """
    _check_files(folder, config)
    _check_indexes(folder)
    torch, transformers = _import("torch"), _import("transformers")
    architecture = _architecture(config, transformers)
    model = _load(folder, getattr(transformers, architecture), torch, pooled=pooled)
    inputs = _inputs(model, torch, _BATCH, _LENGTH)
    outputs = [name for name, value in model(**inputs).items() if isinstance(value, torch.Tensor)]
    dynamic = {name: {axis: _AXES[axis] for axis in _variable(name)} for name in inputs}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns about axis names; `_check` tests the axes
            torch.onnx.export(
                model, (), target, kwargs=inputs, dynamo=True, dynamic_shapes=dynamic, input_names=list(inputs),
                output_names=outputs, external_data=_size(folder) > _ONE_FILE, verbose=False,
            )  # fmt: skip
    except Exception as error:  # the exporter may raise any error
        raise InvalidRequest(
            f"{architecture} cannot be exported by torch {torch.__version__}: {error}".splitlines()[0]
        ) from error
    _check(target, model, outputs, torch)
    note = f"exported by transformers {transformers.__version__}'s {architecture}, with the same outputs"
    return f"{note}; {ENCODER_ONLY}" if config.get("is_encoder_decoder") else note


def _check_files(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest` if the configuration, or an adapter's, would load weights from outside the folder."""
    if (folder / "adapter_config.json").exists():
        raise InvalidRequest(f"{folder.name} holds an adapter of another model: register the merged model")
    file = str(config.get("transformers_weights") or "")
    if Path(file).name != file:
        raise InvalidRequest(f"config.json names {file[:80]!r}, which is not a file in its folder")


def _check_indexes(folder: Path) -> None:
    """Raise `InvalidRequest` unless the indexes of weights name only safetensors files of this folder."""
    for index in sorted(folder.glob(f"*{_INDEX_SUFFIX}")):
        try:
            files = set(msgspec.json.decode(index.read_bytes(), type=_WeightIndex).weight_map.values())
        except msgspec.MsgspecError as error:
            raise InvalidRequest(f"{index.name} is not an index of weights: {error}") from error
        for file in sorted(files):
            if Path(file).name != file or not file.endswith(SAFE_SUFFIX):
                raise InvalidRequest(
                    f"{index.name} names {file[:80]!r}, which is not a {SAFE_SUFFIX} file in its folder"
                )


def _import(package: str) -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"  # a missing file is an error and is not downloaded
    try:
        return import_module(package)
    except ImportError as error:
        raise OperatorError(
            f"weights in safetensors need {package} on this machine ({error}): pip install 'infaas[huggingface]', or "
            "export them elsewhere by `optimum-cli export onnx` and register the ONNX file"
        ) from error


def _architecture(config: Mapping[str, Any], transformers: Any) -> str:
    names = config.get("architectures") or []
    if len(names) != 1:
        raise InvalidRequest(
            "config.json does not name exactly one class in `architectures`: the model class is unknown"
        )
    name = str(names[0])
    known = getattr(transformers, name, None)
    if config.get("auto_map") or not (isinstance(known, type) and issubclass(known, transformers.PreTrainedModel)):
        raise InvalidRequest(
            f"{name} is not a class of transformers {transformers.__version__}, and code in model folders is not "
            "executed: if you trust it, export the model, and register the ONNX file"
        )
    return name


def _load(folder: Path, kind: Any, torch: Any, *, pooled: bool) -> Any:
    """Load the model for tracing; raises `InvalidRequest` if weights are missing or do not fit."""
    try:
        model, found = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32,
            attn_implementation="eager", output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # errors of safetensors and transformers have no common base
        raise InvalidRequest(f"{folder.name} cannot be loaded: {error}".splitlines()[0]) from error
    missing = sorted([*found["missing_keys"], *found.get("mismatched_keys", ())])
    missing = [name for name in missing if not (pooled and name.startswith(_POOLER))]
    if missing:
        raise InvalidRequest(
            f"{folder.name} lacks {len(missing)} of the weights of {kind.__name__} ({missing[0]}, ...), which would "
            "get random values"
        )
    model.config.use_cache = model.config.output_hidden_states = model.config.output_attentions = False
    model.config.return_dict = True
    if pooled and hasattr(model, "pooler"):
        model.pooler = None
    return (model.get_encoder() if model.config.is_encoder_decoder else model).eval()


_AXES: Final = ("batch", "sequence")


def _variable(name: str) -> tuple[int, ...]:
    return (0,) if name == "pixel_values" else (0, 1)


def _inputs(model: Any, torch: Any, batch: int, length: int) -> dict[str, Any]:
    """Return inputs for the model: tokens, or images of its configured size."""
    if model.main_input_name == "pixel_values":
        size, channels = model.config.image_size, getattr(model.config, "num_channels", 3)
        sides = (size, size) if isinstance(size, int) else tuple(size)
        return {
            "pixel_values": torch.linspace(-1, 1, batch * channels * sides[0] * sides[1]).reshape(
                batch, channels, *sides
            )
        }
    if model.main_input_name != "input_ids":
        raise InvalidRequest(
            f"{type(model).__name__} takes {model.main_input_name}: only tokens and images are exported"
        )
    ids = torch.arange(batch * length).reshape(batch, length) % model.config.vocab_size
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(model.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = torch.zeros_like(ids)
    return inputs


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob(f"*{SAFE_SUFFIX}"))


def _check(file: Path, model: Any, outputs: list[str], torch: Any) -> None:
    """Raise `InvalidRequest` unless the file computes the model's outputs for more and longer rows."""
    inputs = _inputs(model, torch, _BATCH + 1, _LENGTH + 3)
    session: Any = _import("onnxruntime").InferenceSession(file, providers=["CPUExecutionProvider"])
    taken = {node.name for node in session.get_inputs()}
    found = session.run(outputs, {name: value.numpy() for name, value in inputs.items() if name in taken})
    with torch.no_grad():
        wanted = model(**inputs)
    for name, array in zip(outputs, found, strict=True):
        if not np.allclose(array, wanted[name].numpy(), rtol=_TOLERANCE, atol=_TOLERANCE):
            raise InvalidRequest(
                f"after the export {type(model).__name__} has another {name}: export it by optimum instead"
            )
