"""Tests of the import of Hugging Face folders: a configuration and safetensors with random weights."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from registry.importers.imported import ImportedModel
from registry.importers.importing import ImportModel
from registry.pipeline.inspection import Inspection, InspectModel, read_signature, token_outputs
from registry.pipeline.isolation import run_step
from registry.pipeline.source_format import SourceFormat
from runtimes.catalog import find_runtime
from runtimes.processing.session import ProcessedSession
from runtimes.protocol import LoadOptions
from schemas.errors import InvalidRequest
from schemas.rows.catalog import Processing
from tests.transformers_models import (
    BERT,
    DISTILBERT,
    GPT2,
    NAMES,
    SENTENCES,
    SMALL,
    T5,
    TAGS,
    answers_alone,
    made_classifier,
    made_model,
)

pytestmark = pytest.mark.needs_torch
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


# -- sequences ---------------------------------------------------------------------------------------------------------
async def _answers(folder: Path, tmp_path: Path) -> dict[str, NDArray[Any]]:
    """Import and inspect a folder; return the outputs of its model for `SENTENCES` together."""
    found = await run_step(ImportModel(folder, tmp_path / "imported.onnx"), ImportedModel)
    step = InspectModel(found.file, SourceFormat.ONNX, None, found.output, tmp_path / "copy", found.processing)
    inspected = await run_step(step, Inspection)
    assert isinstance(found.processing, Processing)
    returned = token_outputs(inspected.tensors, inspected.returned)
    processing = replace(found.processing, tensors=inspected.tensors, returned=returned, scores=inspected.scores)
    model = find_runtime("onnx").load(inspected.file, "cpu", LoadOptions(precision="fp32"))
    session = ProcessedSession(model, processing)
    outputs = session.infer({"text": np.array([text.encode() for text in SENTENCES], object)})
    assert set(outputs) == {spec.name for spec in inspected.signature.outputs}
    return outputs


@pytest.mark.parametrize(
    ("name", "config", "settings", "output"),
    [
        ("BertModel", "BertConfig", BERT, "last_hidden_state"),
        ("BertForTokenClassification", "BertConfig", BERT | TAGS, "logits"),
        ("DistilBertModel", "DistilBertConfig", DISTILBERT, "last_hidden_state"),
        ("GPT2LMHeadModel", "GPT2Config", GPT2, "logits"),
        ("T5ForConditionalGeneration", "T5Config", T5, "last_hidden_state"),
    ],
)
async def test_outputs_of_tokens_equal_those_of_textsanswers_alone(
    tmp_path: Path, name: str, config: str, settings: dict[str, Any], output: str
) -> None:
    model = made_model(tmp_path / "model", name, config, **settings)
    found = await _answers(tmp_path / "model", tmp_path)
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    assert found["lengths"].tolist() == [len(text.split()) for text in SENTENCES]
    for row, wanted in enumerate(answers_alone(encoder, output)):
        np.testing.assert_allclose(found[output][row, : len(wanted)], wanted, atol=1e-4)
        assert not found[output][row, len(wanted) :].any()
        if name == "BertForTokenClassification":
            names = [NAMES[number].encode() for number in wanted.argmax(axis=1)]
            assert found["label"][row, : len(wanted), 0].tolist() == names


async def test_sentence_encoder_equals_mean_of_its_tokens(tmp_path: Path) -> None:
    """The folder lacks the weights of the model's own pooler, as sentence encoders may."""
    transformers = import_module("transformers")
    folder = tmp_path / "model"
    model = made_model(folder, "BertModel", "BertConfig", **BERT)
    bare = transformers.BertModel(model.config, add_pooling_layer=False)
    bare.load_state_dict({name: one for name, one in model.state_dict().items() if not name.startswith("pooler")})
    bare.save_pretrained(folder)
    (folder / "pooling").mkdir()
    (folder / "pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    kinds = {"": "Transformer", "pooling": "Pooling", "norm": "Normalize"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(modules))
    found = await _answers(folder, tmp_path)
    assert set(found) == {"sentence_embedding"}
    means = np.array([one.mean(axis=0) for one in answers_alone(model, "last_hidden_state")])
    wanted = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(found["sentence_embedding"], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "config", "settings"),
    [
        ("BertForSequenceClassification", "BertConfig", BERT),
        ("DistilBertForSequenceClassification", "DistilBertConfig", DISTILBERT),
    ],
)
async def test_classifier_answers_with_the_name_of_its_class(
    tmp_path: Path, name: str, config: str, settings: dict[str, Any]
) -> None:
    model = made_classifier(tmp_path / "model", name, config, **settings)
    wanted = np.array(answers_alone(model, "logits"))
    assert len(set(wanted.argmax(axis=1))) > 1
    found = await _answers(tmp_path / "model", tmp_path)
    assert set(found) == {"label", "logits"}
    np.testing.assert_allclose(found["logits"], wanted, atol=1e-4)
    assert found["label"].tolist() == [[NAMES[number].encode()] for number in wanted.argmax(axis=1)]
