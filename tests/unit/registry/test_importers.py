"""Tests of the importers: trees, scikit-learn, Hugging Face folders, Triton repositories and OpenVINO files."""

import json
import pickle
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.importers.imported import ImportedModel, completed, name_of
from registry.importers.importing import ImportKind, ImportModel, kind_of
from registry.importers.triton import parse_config
from registry.pipeline.inspection import read_signature
from registry.pipeline.source_format import SourceFormat, source_format, weights_precision
from registry.plan import plan_variants
from registry.request import Registration
from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import DecodeImage, PoolTokens, Tokenise, TopClasses
from tests.model_files import WEIGHTS, openvino_files

MakeModel = Callable[..., Path]
X = np.random.default_rng(0).normal(size=(120, 4))
LABELS = (X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 0.5)


def _import(source: Path, tmp_path: Path) -> ImportedModel:
    return ImportModel(source, tmp_path / "imported.onnx").run()


def _infer(file: Path) -> dict[str, Any]:
    session = find_runtime("onnx").load(file, "cpu", LoadOptions(precision="fp32"))
    return session.infer({"x": X.astype(np.float32)})


# -- trees -------------------------------------------------------------------------------------------------------------
@pytest.mark.needs_converters
@pytest.mark.filterwarnings("ignore")
def test_import_converts_lightgbm(tmp_path: Path) -> None:
    lightgbm: Any = import_module("lightgbm")

    quiet = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}
    booster = lightgbm.train({"objective": "multiclass", "num_class": 3, **quiet}, lightgbm.Dataset(X, LABELS), 5)
    booster.save_model(tmp_path / "trees.txt")
    assert kind_of(tmp_path / "trees.txt") is ImportKind.LIGHTGBM
    found = _import(tmp_path / "trees.txt", tmp_path)
    assert "its input 'x' has 4 numbers a row" in found.notes[0]
    assert np.allclose(_infer(found.file)["probabilities"], booster.predict(X), atol=1e-5)


@pytest.mark.needs_converters
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["json", "ubj"])
def test_import_converts_xgboost_reproducibly(tmp_path: Path, suffix: str) -> None:
    xgboost: Any = import_module("xgboost")

    file = tmp_path / f"My_Trees.{suffix}"
    model = xgboost.XGBRegressor(n_estimators=5, n_jobs=1).fit(X, X[:, 0])
    model.save_model(file)
    assert kind_of(file) is ImportKind.XGBOOST
    found = _import(file, tmp_path)
    assert found.name == "my-trees"
    assert np.allclose(next(iter(_infer(found.file).values()))[:, 0], model.predict(X), atol=1e-5)
    first = found.file.read_bytes()
    assert _import(file, tmp_path).file.read_bytes() == first


@pytest.mark.needs_converters
@pytest.mark.filterwarnings("ignore")
def test_import_converts_skops_and_refuses_untrusted_types(tmp_path: Path) -> None:
    skops: Any = import_module("skops.io")
    linear: Any = import_module("sklearn.linear_model")
    preprocessing: Any = import_module("sklearn.preprocessing")

    model = linear.LogisticRegression().fit(X, LABELS)
    skops.dump(model, tmp_path / "lr.skops")
    assert kind_of(tmp_path / "lr.skops") is ImportKind.SKOPS
    found = _import(tmp_path / "lr.skops", tmp_path)
    assert np.allclose(_infer(found.file)["probabilities"], model.predict_proba(X), atol=1e-5)
    skops.dump(preprocessing.FunctionTransformer(_import), tmp_path / "own.skops")
    with pytest.raises(InvalidRequest, match="which skops does not trust"):
        _import(tmp_path / "own.skops", tmp_path)


def test_kind_of_refuses_pickle_with_instructions(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InvalidRequest, match=r"is a pickle.*skl2onnx\.to_onnx"):
        kind_of(tmp_path / "model.pkl")


# -- folders -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def hugging_face(tmp_path: Path, make_model: MakeModel) -> Path:
    folder = tmp_path / "My.Model_v2"
    (folder / "onnx").mkdir(parents=True)
    make_model().rename(folder / "onnx" / "model.onnx")
    config = {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "bad", "1": "so-so", "2": "good"},
        "problem_type": "single_label_classification",
        "max_position_embeddings": 128,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_import_reads_hugging_face_classes_and_tokenizer(hugging_face: Path, tmp_path: Path) -> None:
    (hugging_face / "tokenizer.json").write_text("{}")
    found = _import(hugging_face, tmp_path)
    assert (found.name, found.file) == ("my-model-v2", hugging_face / "onnx" / "model.onnx")
    assert (found.classes, found.measure, found.output) == (("bad", "so-so", "good"), "accuracy", "logits")
    assert found.processing is not None
    step = found.processing.before
    assert isinstance(step, Tokenise)
    assert (step.tokenizer, step.max_tokens) == (str(hugging_face / "tokenizer.json"), 128)
    asked = Registration(architecture="a", task="b", file=hugging_face, classes=("x", "y", "z"), max_batch=8)
    request = completed(asked, found)
    assert (request.classes, request.measure, request.max_batch) == (("x", "y", "z"), "accuracy", 8)


def test_import_answers_labels_of_hugging_face_folder(hugging_face: Path, tmp_path: Path) -> None:
    (hugging_face / "tokenizer.json").write_text("{}")
    found = _import(hugging_face, tmp_path)
    assert found.processing is not None
    (step,) = found.processing.after
    assert isinstance(step, TopClasses)
    assert Path(step.labels).read_text().splitlines() == ["bad", "so-so", "good"]
    config = json.loads((hugging_face / "config.json").read_text())
    several = config | {"problem_type": "multi_label_classification"}
    (hugging_face / "config.json").write_text(json.dumps(several))
    found = _import(hugging_face, tmp_path)
    assert found.processing is not None
    assert found.processing.after == (), "the best of several labels is no answer"


def _modules(folder: Path, *kinds: str, path: str = "1_Pooling", **pooling: Any) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    paths = ["", path, "2", "3"]
    modules = [
        {"path": one, "type": f"sentence_transformers.models.{kind}"} for kind, one in zip(kinds, paths, strict=False)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize(
    ("kinds", "pooling", "pool"),
    [
        (("Transformer", "Pooling"), {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        (("Transformer", "Pooling", "Normalize"), {"pooling_mode_mean_tokens": True}, "mean"),
        (("Transformer", "Pooling"), {"pooling_mode": "lasttoken", "embedding_dimension": 3}, "last"),
    ],
)
def test_import_reads_pooling_of_sentence_encoder(
    hugging_face: Path, tmp_path: Path, kinds: tuple[str, ...], pooling: dict[str, Any], pool: Any
) -> None:
    (hugging_face / "tokenizer.json").write_text("{}")
    (hugging_face / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 40}))
    _modules(hugging_face, *kinds, **pooling)
    config = json.loads((hugging_face / "config.json").read_text()) | {"architectures": ["BertModel"], "id2label": {}}
    (hugging_face / "config.json").write_text(json.dumps(config))
    found = _import(hugging_face, tmp_path)
    assert found.measure == "cosine"
    assert found.processing is not None
    assert found.processing.after == (PoolTokens(mode=pool, normalise="Normalize" in kinds),)
    assert isinstance(found.processing.before, Tokenise)
    assert found.processing.before.max_tokens == 40


@pytest.mark.parametrize(
    ("kinds", "path", "pooling", "said"),
    [
        (("Transformer", "Pooling", "Dense"), "1_Pooling", {}, "lists Transformer, Pooling, Dense; only .*optimum-cli"),
        (("Transformer", "Pooling"), "1_Pooling", {"pooling_mode_max_tokens": True}, "pooling_mode_max_tokens is not"),
        (("Transformer", "Pooling"), "../other", {}, "outside of its folder"),
        (("Transformer", "Pooling"), "nowhere", {}, r"config\.json of the sentence encoder cannot be read"),
    ],
)
def test_import_refuses_unknown_sentence_encoders(
    hugging_face: Path, tmp_path: Path, kinds: tuple[str, ...], path: str, pooling: dict[str, Any], said: str
) -> None:
    _modules(hugging_face, *kinds, path=path, **pooling)
    with pytest.raises(InvalidRequest, match=said):
        _import(hugging_face, tmp_path)


def test_import_does_not_pool_exported_sentence_encoder(
    hugging_face: Path, tmp_path: Path, make_model: MakeModel
) -> None:
    (hugging_face / "tokenizer.json").write_text("{}")
    make_model(output="sentence_embedding").rename(hugging_face / "onnx" / "model.onnx")
    _modules(hugging_face, "Transformer", "Pooling", pooling_mode_mean_tokens=True)
    found = _import(hugging_face, tmp_path)
    assert found.processing is not None
    assert not any(isinstance(step, PoolTokens) for step in found.processing.after)


def test_import_serves_encoder_of_encoder_and_decoder(hugging_face: Path, tmp_path: Path) -> None:
    for name in ("encoder_model.onnx", "decoder_model.onnx"):
        (hugging_face / "onnx" / name).write_bytes((hugging_face / "onnx" / "model.onnx").read_bytes())
    (hugging_face / "onnx" / "model.onnx").unlink()
    config = {"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}
    (hugging_face / "config.json").write_text(json.dumps(config))
    found = _import(hugging_face, tmp_path)
    assert found.file == hugging_face / "onnx" / "encoder_model.onnx"
    assert "only the encoder is served" in found.notes[-1]


def test_import_reads_hugging_face_image_processing(hugging_face: Path, tmp_path: Path) -> None:
    prepared = {"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True, "image_mean": [0.5, 0.4, 0.3]}
    (hugging_face / "preprocessor_config.json").write_text(json.dumps(prepared))
    found = _import(hugging_face, tmp_path)
    assert found.processing is not None
    step = found.processing.before
    assert isinstance(step, DecodeImage)
    assert (step.width, step.height, step.shorter_side, step.mean) == (224, 224, 256, (0.5, 0.4, 0.3))


def test_import_explains_export_of_hugging_face_weights(
    hugging_face: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hugging_face / "onnx" / "model.onnx").unlink()
    with pytest.raises(InvalidRequest, match="holds no model"):
        _import(hugging_face, tmp_path)
    (hugging_face / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InvalidRequest, match=r"pickled weights, .*as safetensors"):
        _import(hugging_face, tmp_path)
    (hugging_face / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        OperatorError, match=r"need torch .*'infaas\[huggingface\]', or export them elsewhere by `optimum"
    ):
        _import(hugging_face, tmp_path)


@pytest.mark.parametrize(
    "index",
    [
        {"weight_map": {"w": "../another/model.safetensors"}},
        {"weight_map": {"w": "/home/another/model.safetensors"}},
        {"weight_map": {"v": "model-1.safetensors", "w": "pytorch_model.bin"}},
        {"weight_map": ["model-1.safetensors"]},
    ],
)
def test_import_refuses_weight_index_outside_folder(hugging_face: Path, tmp_path: Path, index: dict[str, Any]) -> None:
    (hugging_face / "onnx" / "model.onnx").unlink()
    (hugging_face / "model-1.safetensors").write_bytes(b"")
    (hugging_face / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidRequest, match=r"^model\.safetensors\.index\.json (names|is not an index)"):
        _import(hugging_face, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", {"transformers_weights": "../theirs.safetensors"}, "which is not a file in its folder"),
        ("adapter_config.json", {"base_model_name_or_path": "/srv/theirs"}, "an adapter of another model"),
    ],
)
def test_import_refuses_weights_of_other_folders(
    hugging_face: Path, tmp_path: Path, name: str, content: dict[str, Any], said: str
) -> None:
    (hugging_face / "onnx" / "model.onnx").unlink()
    (hugging_face / "model.safetensors").write_bytes(b"")
    (hugging_face / name).write_text(json.dumps(content))
    with pytest.raises(InvalidRequest, match=said):
        _import(hugging_face, tmp_path)


CONFIG = """
name: "digits"  # what it is called
backend: "onnxruntime"
max_batch_size: 16
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "scores", data_type: TYPE_FP32, dims: [ 3 ], label_filename: "labels.txt" } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
parameters: { key: "note" value: { string_value: "a \\"quoted\\" one" } }
"""


@pytest.fixture
def repository(tmp_path: Path, make_model: MakeModel) -> Path:
    folder = tmp_path / "repository"
    for version in ("1", "10"):
        (folder / "digits" / version).mkdir(parents=True)
        make_model().rename(folder / "digits" / version / "model.onnx")
    (folder / "digits" / "config.pbtxt").write_text(CONFIG)
    (folder / "digits" / "labels.txt").write_text("ox\ncat\ndog\n")
    for name, platform, file in (("trt", "tensorrt_plan", "model.plan"), ("torch", "pytorch_libtorch", "model.pt")):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1" / file).write_bytes(b"")
        (folder / name / "config.pbtxt").write_text(f'platform: "{platform}"')
    return folder


def test_import_takes_newest_triton_version_with_labels(repository: Path, tmp_path: Path) -> None:
    found = _import(repository / "digits", tmp_path)
    assert found.file == repository / "digits" / "10" / "model.onnx"
    assert (found.classes, found.output, found.max_batch) == (("ox", "cat", "dog"), "scores", 16)
    assert completed(Registration(architecture="a", task="b", file=repository), found).max_batch == 16


def test_import_packs_openvino_files_reproducibly(make_model: MakeModel, tmp_path: Path) -> None:
    graph = openvino_files(make_model(), tmp_path / "Ours" / "model.xml")
    assert kind_of(graph) is ImportKind.OPENVINO
    found = _import(graph, tmp_path)
    first = found.file.read_bytes()
    assert source_format(found.file) is SourceFormat.OPENVINO
    assert weights_precision(found.file, SourceFormat.OPENVINO) == "fp32"
    signature = read_signature(found.file, SourceFormat.OPENVINO)
    assert [(s.name, s.datatype, s.shape) for s in (*signature.inputs, *signature.outputs)] == [
        ("x", "FP32", (-1, 4)),
        ("scores", "FP32", (-1, 3)),
    ]
    session = find_runtime("openvino").load(found.file, "cpu", LoadOptions(precision="fp32"))
    x = X.astype(np.float32)
    assert np.allclose(session.infer({"x": x})["scores"], x @ WEIGHTS, rtol=1e-4, atol=1e-5)
    planned = plan_variants(Registration(architecture="a", task="b", file=found.file), SourceFormat.OPENVINO)
    assert planned[0].row.name == "a.openvino-fp32.cpu"
    assert _import(graph, tmp_path).file.read_bytes() == first, "the same files are the same content"


def test_import_refuses_damaged_openvino_files(make_model: MakeModel, tmp_path: Path) -> None:
    graph = openvino_files(make_model(), tmp_path / "ours" / "model.xml")
    content = graph.read_bytes()
    graph.write_bytes(content.replace(b"</layers>", b"</player>"))
    found = _import(graph, tmp_path)
    with pytest.raises(InvalidRequest, match="OpenVINO cannot read the model"):
        read_signature(found.file, SourceFormat.OPENVINO)
    found.file.write_bytes(found.file.read_bytes().replace(b"</player>", b"</prayer>"))
    with pytest.raises(InvalidRequest, match="is a damaged archive"):
        weights_precision(found.file, SourceFormat.OPENVINO)
    graph.with_suffix(".bin").unlink()
    with pytest.raises(InvalidRequest, match=r"its weights, model\.bin, are not in the same folder"):
        _import(graph, tmp_path)


def test_import_takes_triton_openvino_model(repository: Path, make_model: MakeModel, tmp_path: Path) -> None:
    openvino_files(make_model("other.onnx"), repository / "ov" / "2" / "model.xml")
    (repository / "ov" / "config.pbtxt").write_text('backend: "openvino" max_batch_size: 8')
    found = _import(repository / "ov", tmp_path)
    assert source_format(found.file) is SourceFormat.OPENVINO
    assert (found.name, found.max_batch, found.notes[0]) == ("ov", 8, "version 2, openvino backend")


def test_import_lists_servable_models_of_triton_repository(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"digits: version 10, onnxruntime.*TorchScript.*TensorRT engine"):
        _import(repository, tmp_path)


def test_parse_config_reads_protobuf_text() -> None:
    config = parse_config(CONFIG)
    assert config["max_batch_size"] == ["16"]
    assert config["output"][0]["dims"] == ["3"]
    assert config["parameters"][0]["value"][0]["string_value"] == ['a "quoted" one']
    for wrong in ("name: ", "input [ { name: 1 ", "name: @", "a {" * 50):
        with pytest.raises(InvalidRequest, match=r"config\.pbtxt"):
            parse_config(wrong)


def test_kind_of_refuses_unknown_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="neither a Hugging Face folder"):
        kind_of(tmp_path)
    assert name_of(tmp_path / "A_b.C") == "a-b-c"


@pytest.mark.parametrize(
    ("stem", "task", "name"),
    [
        ("reviews", "sentiment", "reviews"),
        ("reviews", "reviews", "reviews-model"),
        ("r" * 63, "r" * 63, "r" * 57 + "-model"),
    ],
)
def test_name_of_differs_from_task(tmp_path: Path, stem: str, task: str, name: str) -> None:
    file = tmp_path / f"{stem}.onnx"
    file.touch()
    assert name_of(file, task) == name
