"""Tests of the import of Hugging Face folders: a configuration and safetensors with random weights."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.importers.imported import ImportedModel
from registry.importers.importing import ImportModel
from registry.pipeline.inspection import read_signature
from registry.pipeline.isolation import run_step
from registry.pipeline.source_format import SourceFormat
from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions
from schemas.errors import InvalidRequest

pytestmark = pytest.mark.torch
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
LABELS = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}


def _saved(folder: Path, name: str, config: str, **settings: Any) -> Any:
    """Create a model of a transformers class, save it to the folder, and return it."""
    transformers, torch = import_module("transformers"), import_module("torch")
    torch.manual_seed(0)
    model = getattr(transformers, name)(getattr(transformers, config)(**SMALL, **settings)).eval()
    model.save_pretrained(folder)
    return model


@pytest.fixture
def texts(tmp_path: Path) -> Any:
    return _saved(
        tmp_path / "texts", "BertForSequenceClassification", "BertConfig", vocab_size=50, max_position_embeddings=64,
        **LABELS,
    )  # fmt: skip


async def test_text_weights_import_with_any_batch_and_length(texts: Any, tmp_path: Path) -> None:
    torch: Any = import_module("torch")
    step = ImportModel(tmp_path / "texts", tmp_path / "imported.onnx")
    found = await run_step(step, ImportedModel)
    assert (found.classes, found.output, found.file) == (("bad", "good"), "logits", tmp_path / "imported.onnx")
    assert "exported by transformers" in found.notes[0]
    signature = read_signature(found.file, SourceFormat.ONNX)
    assert {spec.shape for spec in signature.inputs} == {(-1, -1)}
    rows = np.random.default_rng(0).integers(0, 50, (5, 17))
    inputs = {"input_ids": rows, "attention_mask": np.ones_like(rows), "token_type_ids": np.zeros_like(rows)}
    inputs["attention_mask"][1, 9:] = 0
    session = find_runtime("onnx").load(found.file, "cpu", LoadOptions(precision="fp32"))
    with torch.no_grad():
        wanted = texts(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits.numpy()
    assert np.allclose(session.infer(inputs)["logits"], wanted, atol=1e-4)


def test_image_weights_import_as_model(tmp_path: Path) -> None:
    _saved(tmp_path / "images", "ViTForImageClassification", "ViTConfig", image_size=32, patch_size=8, **LABELS)
    found = ImportModel(tmp_path / "images", tmp_path / "imported.onnx").run()
    (pixels,) = read_signature(found.file, SourceFormat.ONNX).inputs
    assert (pixels.name, pixels.shape) == ("pixel_values", (-1, 3, 32, 32))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_hidden_layers": 2}, "lacks 16 of the weights"),
        ({"architectures": ["TheirOwn"]}, "not a class of transformers .* is not executed"),
        ({"auto_map": {"AutoModel": "model.TheirOwn"}}, "is not executed"),
    ],
)
def test_missing_weights_and_custom_code_are_refused(
    texts: Any, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    file = tmp_path / "texts" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InvalidRequest, match=said):
        ImportModel(tmp_path / "texts", tmp_path / "imported.onnx").run()
