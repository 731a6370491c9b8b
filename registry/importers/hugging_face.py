"""Imports a folder of Hugging Face's libraries: a model, its configuration, and its preparation of texts or images.

Weights in safetensors are no program. If `transformers` is installed, its Python class of the model exports them to
ONNX (`hugging_face_weights`).
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from registry.importers.hugging_face_weights import SAFE_SUFFIX, export_weights
from registry.importers.imported import GRAPH_SUFFIX, ImportedModel, name_of, pack_openvino
from registry.quality import MACRO_F1, REGRESSION
from schemas.errors import InvalidRequest
from schemas.rows.catalog import ACCURACY, DecodeImage, Processing, Tokenise

_FILES: Final = ("model.onnx", "onnx/model.onnx", "onnx/decoder_model.onnx")
_OPENVINO: Final = "openvino_model.xml"
_PICKLES: Final = (".bin", ".pt", ".pth")
_MEASURES: Final = {
    "single_label_classification": ACCURACY,
    "multi_label_classification": MACRO_F1,
    "regression": REGRESSION,
}
_MOST_TOKENS: Final = 512


def read_hugging_face(folder: Path, target: Path) -> ImportedModel:
    """Find the model and its settings; OpenVINO's files, and weights, are converted to one file at `target`.

    Raises:
        InvalidRequest: the folder has no model that can be served; the message says how to proceed.
        OperatorError: the package that exports weights is not installed.
    """
    config = _read(folder / "config.json")
    file = _model_file(folder, config)
    classes = _classes(config)
    processing, notes = _processing(folder, config)
    if file.suffix == GRAPH_SUFFIX:
        pack_openvino(file, target)
    elif file.suffix == SAFE_SUFFIX:
        notes.append(export_weights(folder, config, target))
    if classes:
        notes.append(f"{len(classes)} classes by config.json: {', '.join(classes[:3])}, ...")
    architecture = ", ".join(config.get("architectures") or []) or str(config.get("model_type", "unknown"))
    return ImportedModel(
        file=target if file.suffix in (GRAPH_SUFFIX, SAFE_SUFFIX) else file,
        name=name_of(folder),
        kind=f"a Hugging Face folder ({architecture}), of which {file.relative_to(folder)} is registered",
        measure=_MEASURES.get(str(config.get("problem_type"))),
        classes=classes,
        output="logits" if "Classification" in architecture else None,
        processing=processing,
        notes=tuple(notes),
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidRequest(f"{file} is not a configuration: {error}") from error


def _model_file(folder: Path, config: dict[str, Any]) -> Path:
    found = [folder / name for name in _FILES if (folder / name).is_file()]
    found = found or sorted([*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")])
    if len(found) == 1 or (found and found[0].name == "model.onnx"):
        return found[0]
    if found:
        names = ", ".join(str(file.relative_to(folder)) for file in found)
        raise InvalidRequest(f"{folder.name} holds several models ({names}): register the file itself")
    if (folder / _OPENVINO).is_file():
        return folder / _OPENVINO
    weights = sorted(folder.glob(f"*{SAFE_SUFFIX}"))
    if weights:
        return weights[0]
    kind = f"{folder.name} (model type {config.get('model_type', 'unknown')})"
    if not any(file.suffix in _PICKLES for file in folder.iterdir()):
        raise InvalidRequest(f"{kind} holds no model: no ONNX, no OpenVINO files, and no weights")
    raise InvalidRequest(
        f"{kind} holds pickled weights, and loading a pickle executes code from the file: if you trust it, save the "
        "weights as safetensors by `transformers` (`model.save_pretrained(FOLDER)`), and register these"
    )


def _classes(config: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes, in order; empty for the default names `LABEL_0`, `LABEL_1` ..."""
    names: dict[str, Any] = config.get("id2label") or {}
    ordered = tuple(str(names[key]) for key in sorted(names, key=int)) if all(key.isdigit() for key in names) else ()
    return () if all(name == f"LABEL_{number}" for number, name in enumerate(ordered)) else ordered


def _processing(folder: Path, config: dict[str, Any]) -> tuple[Processing | None, list[str]]:
    """Return the step that makes tensors of texts or images, as the folder configures it, with a note."""
    tokenizer, images = folder / "tokenizer.json", folder / "preprocessor_config.json"
    if tokenizer.is_file():
        most = min(_MOST_TOKENS, int(config.get("max_position_embeddings") or _MOST_TOKENS))
        step = Tokenise(tokenizer=str(tokenizer.absolute()), max_tokens=most, cut=True)
        return Processing(before=step), [f"clients send texts; tokenizer.json limits them to {most} tokens"]
    if images.is_file():
        step = _image_step(_read(images))
        return Processing(before=step), [
            f"clients send PNG or JPEG, resized to {step.width}x{step.height} as configured"
        ]
    return None, []


def _image_step(config: dict[str, Any]) -> DecodeImage:
    size = config.get("crop_size") if config.get("do_center_crop") else config.get("size")
    whole = config.get("size")
    width, height = _sides(size if size is not None else 224)
    normalised = config.get("do_normalize", True)
    return DecodeImage(
        width=width,
        height=height,
        shorter_side=_sides(whole)[0] if config.get("do_center_crop") and whole is not None else None,
        scale=float(config.get("rescale_factor") or 1 / 255) if config.get("do_rescale", True) else 1.0,
        mean=tuple(config.get("image_mean") or ()) if normalised else (),
        std=tuple(config.get("image_std") or ()) if normalised else (),
    )


def _sides(size: Any) -> tuple[int, int]:
    """Return width and height from a number, a dict of sides, or a dict with the shorter side."""
    if isinstance(size, dict):
        shorter = size.get("shortest_edge", 224)
        return int(size.get("width", shorter)), int(size.get("height", shorter))
    return int(size), int(size)
