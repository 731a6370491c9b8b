"""Imports a folder of Hugging Face's libraries: a model, its configuration, and its preparation of texts or images.

Weights in safetensors are no program. If `transformers` is installed, its Python class of the model exports them to
ONNX (`hugging_face_weights`).
"""

from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from registry.importers.decoder import import_decoder, read_config
from registry.importers.hugging_face_weights import ENCODER_ONLY, SAFE_SUFFIX, export_weights
from registry.importers.imported import GRAPH_SUFFIX, ImportedModel, labels_file, name_of, pack_openvino
from registry.importers.sentence_encoder import SentenceEncoder, read_modules
from registry.pipeline.source_format import SourceFormat, source_format
from registry.quality import COSINE, MACRO_F1, REGRESSION
from runtimes.processing.outputs import EMBEDDING
from schemas.errors import InvalidRequest
from schemas.rows.catalog import ACCURACY, DecodeImage, Processing, Tokenise, TopClasses

_ENCODERS: Final = ("encoder_model.onnx", "onnx/encoder_model.onnx")
_NORMALISED: Final = ", scaled to length 1"
_FILES: Final = ("model.onnx", "onnx/model.onnx", *_ENCODERS, "onnx/decoder_model.onnx")
_OPENVINO: Final = "openvino_model.xml"
_LABELLED: Final = ("", "single_label_classification")
"""Problem types in which an input, or a token, has one class."""
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
    encoder = read_modules(folder)
    own = encoder.transformer if encoder is not None else folder
    config = read_config(own / "config.json")
    file = _model_file(folder if _has_graph(folder) else own, config)
    if file.suffix == ".onnx" and source_format(file) is SourceFormat.ONNX_DECODER:
        return ImportedModel(
            file=target,
            name=name_of(folder),
            kind=f"a Hugging Face folder ({_architecture(config)}), of which {file.relative_to(folder)} is registered",
            notes=tuple(import_decoder(file, own, config, target)),
        )
    classes = _classes(config)
    pooled = encoder is not None and not _names(file, EMBEDDING)
    processing, notes = _processing(own, config, encoder)
    if file.suffix == GRAPH_SUFFIX:
        pack_openvino(file, target)
    elif file.suffix == SAFE_SUFFIX:
        notes.append(export_weights(own, config, target, pooled=pooled))
    elif config.get("is_encoder_decoder"):
        notes.append(ENCODER_ONLY)
    architecture = _architecture(config)
    if encoder is not None and pooled and processing is not None:
        processing = replace(processing, after=(encoder.pool,))
        notes.append(f"texts become vectors by {encoder.pool.mode} pooling{_NORMALISED * encoder.pool.normalise}")
    if classes:
        notes.append(f"{len(classes)} classes by config.json: {', '.join(classes[:3])}, ...")
        if processing is not None and "Classification" in architecture and _problem(config) in _LABELLED:
            processing = replace(processing, after=(TopClasses(labels=_written(classes, labels_file(target))),))
    return ImportedModel(
        file=target if file.suffix in (GRAPH_SUFFIX, SAFE_SUFFIX) else file,
        name=name_of(folder),
        kind=f"a Hugging Face folder ({architecture}), of which {file.relative_to(folder)} is registered",
        measure=COSINE if encoder is not None else _MEASURES.get(_problem(config)),
        classes=classes,
        output="logits" if "Classification" in architecture else None,
        processing=processing,
        notes=tuple(notes),
    )


def _architecture(config: dict[str, Any]) -> str:
    return ", ".join(config.get("architectures") or []) or str(config.get("model_type", "unknown"))


def _problem(config: dict[str, Any]) -> str:
    return str(config.get("problem_type") or "")


def _written(classes: tuple[str, ...], file: Path) -> str:
    file.write_text("\n".join(classes), "utf-8")
    return str(file.absolute())


def _has_graph(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (*_FILES, _OPENVINO))


def _names(file: Path, output: str) -> bool:
    """Return true if a graph contains the name of an output; names are plain text in ONNX and OpenVINO's format."""
    if file.suffix == SAFE_SUFFIX:
        return False
    with file.open("rb") as content, mmap(content.fileno(), 0, access=ACCESS_READ) as graph:
        return graph.find(output.encode()) >= 0


def _model_file(folder: Path, config: dict[str, Any]) -> Path:
    found = [folder / name for name in _FILES if (folder / name).is_file()]
    found = found or sorted([*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")])
    if len(found) == 1 or (found and found[0].name in ("model.onnx", "encoder_model.onnx")):
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
    known = all(key.isdigit() for key in names)
    ordered = tuple(" ".join(str(names[key]).split()) for key in sorted(names, key=int)) if known else ()
    return () if all(name == f"LABEL_{number}" for number, name in enumerate(ordered)) else ordered


def _processing(
    folder: Path, config: dict[str, Any], encoder: SentenceEncoder | None
) -> tuple[Processing | None, list[str]]:
    """Return the step that makes tensors of texts or images, as the folder configures it, with a note."""
    tokenizer, images = folder / "tokenizer.json", folder / "preprocessor_config.json"
    if tokenizer.is_file():
        limits = [config.get("max_position_embeddings"), config.get("n_positions"), encoder and encoder.max_tokens]
        most = min([_MOST_TOKENS, *(int(limit) for limit in limits if limit)])
        step = Tokenise(tokenizer=str(tokenizer.absolute()), max_tokens=most, cut=True)
        return Processing(before=step), [f"clients send texts; tokenizer.json limits them to {most} tokens"]
    if images.is_file():
        step = _image_step(read_config(images))
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
