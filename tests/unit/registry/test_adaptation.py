"""Tests of adapting exported ONNX models without a change of their outputs."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from registry.pipeline.adaptation.adapt import adapt
from registry.pipeline.adaptation.graph import external_files, precision_of
from registry.pipeline.inspection import read_signature
from registry.pipeline.source_format import SourceFormat, model_sha256
from registry.plan import plan_variants
from registry.request import Registration
from runtimes.catalog import find_runtime
from runtimes.onnx import is_pack
from runtimes.protocol import LoadOptions
from schemas.errors import InvalidRequest

FLOAT, W = TensorProto.FLOAT, np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
X = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32)
MakeModel = Callable[..., Path]


def _save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any]) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(w, n) for n, w in weights.items()])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def _value(name: str, shape: list[Any], kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _infer(file: Path, **inputs: Any) -> dict[str, Any]:
    session = find_runtime("onnx").load(file, "cpu", LoadOptions(precision="fp32"))
    return session.infer(inputs)


def _shapes(file: Path) -> list[tuple[int, ...]]:
    signature = read_signature(file, SourceFormat.ONNX)
    return [spec.shape for spec in (*signature.inputs, *signature.outputs)]


def test_adapt_keeps_plain_model(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model()
    adapted = adapt(model, tmp_path / "adapted")
    assert (adapted.file, adapted.notes, adapted.alone) == (model, (), False)
    assert not (tmp_path / "adapted").exists()


def test_adapt_makes_batch_of_one_dynamic(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "flat"], ["y"]), helper.make_node("MatMul", ["y", "w"], ["z"])]
    weights = {"flat": np.array([1, 4]), "w": W}
    model = _save(tmp_path / "one.onnx", nodes, [_value("x", [1, 2, 2])], [_value("z", [1, 3])], weights)
    adapted = adapt(model, tmp_path / "adapted")
    assert _shapes(adapted.file) == [(-1, 2, 2), (-1, 3)]
    assert "exported for batches of 1; its batch is variable now" in adapted.notes[0]
    assert np.allclose(_infer(adapted.file, x=X.reshape(5, 2, 2))["z"], X @ W, rtol=1e-5)


def test_adapt_serves_fixed_batch_of_one_singly(tmp_path: Path) -> None:
    """The model averages over its batch, so only a batch of one gives a correct answer."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], keepdims=1, axes=[0]),
        helper.make_node("MatMul", ["m", "w"], ["z"]),
    ]
    model = _save(tmp_path / "one.onnx", nodes, [_value("x", [1, 4])], [_value("z", [1, 3])], {"w": W})
    adapted = adapt(model, tmp_path / "adapted")
    assert adapted.alone
    assert adapted.file == model
    assert "computed one by one" in adapted.notes[0]


@pytest.mark.parametrize("named", [True, False])
def test_adapt_moves_batch_to_first_dimension(tmp_path: Path, named: bool) -> None:
    size = "batch" if named else "something"
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"])]
    model = _save(tmp_path / "seq.onnx", nodes, [_value("x", ["T", size, 4])], [_value("z", ["T", size, 3])], {"w": W})
    adapted = adapt(model, tmp_path / "adapted", () if named else ("x=1", "z=1"))
    assert "first dimension of x, z" in adapted.notes[0]
    x = np.random.default_rng(5).normal(size=(2, 7, 4)).astype(np.float32)
    assert np.allclose(_infer(adapted.file, x=x)["z"], x @ W, rtol=1e-5)
    with pytest.raises(InvalidRequest, match="no input or output 'y'"):
        adapt(model, tmp_path / "adapted", ("y=1",))
    with pytest.raises(InvalidRequest, match="it has 3 dimensions"):
        adapt(model, tmp_path / "adapted", ("x=3",))


def test_adapt_embeds_external_weights_of_branches(tmp_path: Path) -> None:
    """The subgraph of a branch has initializers of its own; they can be external, too."""
    branches = [
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "v"], ["inner"])],
            name,
            [],
            [_value("inner", ["n", 3])],
            [numpy_helper.from_array(weights, "v")],
        )
        for name, weights in (("yes", W), ("no", -W))
    ]
    nodes = [helper.make_node("If", ["certain"], ["z"], then_branch=branches[0], else_branch=branches[1])]
    model = _save(tmp_path / "if.onnx", nodes, [_value("x", ["n", 4])], [_value("z", ["n", 3])], {"certain": np.True_})
    graph: Any = onnx.load(model)
    tensor = graph.graph.node[0].attribute[0].g.initializer[0]
    set_external_data(tensor, "weights")
    (tmp_path / "weights").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    onnx.save(graph, model)
    adapted = adapt(model, tmp_path / "adapted")
    assert "weights in other files" in adapted.notes[0]
    (tmp_path / "weights").unlink()
    assert np.allclose(_infer(adapted.file, x=X)["z"], X @ W, rtol=1e-5)


def test_adapt_widens_bf16(tmp_path: Path) -> None:
    half = W.astype(ml_dtypes.bfloat16)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"])]
    kind = TensorProto.BFLOAT16
    model = _save(
        tmp_path / "bf16.onnx", nodes, [_value("x", ["n", 4], kind)], [_value("z", ["n", 3], kind)], {"w": half}
    )
    adapted = adapt(model, tmp_path / "adapted")
    assert "BF16" in adapted.notes[0]
    assert read_signature(adapted.file, SourceFormat.ONNX).inputs[0].datatype == "FP32"
    assert np.allclose(_infer(adapted.file, x=X)["z"], X @ half.astype(np.float32), rtol=1e-5)


def test_adapt_converts_zipmap_to_scores_and_classes(tmp_path: Path) -> None:
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, []))
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("ZipMap", ["y"], ["z"], domain="ai.onnx.ml", classlabels_strings=["ox", "cat", "dog"]),
    ]
    outputs = [helper.make_value_info("z", maps)]
    adapted = adapt(_save(tmp_path / "m.onnx", nodes, [_value("x", ["n", 4])], outputs, {"w": W}), tmp_path / "adapted")
    assert adapted.classes == ("ox", "cat", "dog")
    assert _shapes(adapted.file) == [(-1, 4), (-1, 3)]
    assert np.allclose(_infer(adapted.file, x=X)["z"], X @ W, rtol=1e-5)


def test_is_pack_rejects_other_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as program:
        program.writestr("net/archive_format", "pt2")
    assert not is_pack(tmp_path / "net.pt2")


@pytest.mark.parametrize("packed", [False, True])
def test_adapt_embeds_or_packs_external_weights(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    """A model above protobuf's size limit is packed; the test lowers the limit."""
    if packed:
        monkeypatch.setattr("registry.pipeline.adaptation.graph.ONE_FILE_BYTES", 10)
        monkeypatch.setattr("registry.pipeline.adaptation.graph._SMALL_BYTES", 10)
    model, file = onnx.load(make_model(weights=W)), tmp_path / "apart" / "m.onnx"
    file.parent.mkdir()
    onnx.save(model, file, save_as_external_data=True, location="m.data", size_threshold=0)
    before = model_sha256(file, SourceFormat.ONNX)
    adapted = adapt(file, tmp_path / "adapted")
    assert is_pack(adapted.file) == packed
    assert _shapes(adapted.file) == [(-1, 4), (-1, 3)]
    assert external_files(file) == [file.parent / "m.data"]
    data = file.parent / "m.data"
    data.rename(tmp_path / "elsewhere")
    assert np.allclose(_infer(adapted.file, x=X)["scores"], X @ W, rtol=1e-5)
    with pytest.raises(InvalidRequest, match=r"m\.data, which is not in the same folder"):
        model_sha256(file, SourceFormat.ONNX)
    data.write_bytes(bytes(48))
    assert model_sha256(file, SourceFormat.ONNX) != before


def _outside() -> Any:
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret")
    return tensor


def _in_function(model: Any) -> None:
    nodes = [helper.make_node("Constant", [], ["w"], value=_outside()), helper.make_node("Add", ["a", "w"], ["b"])]
    model.functions.append(helper.make_function("own", "F", ["a"], ["b"], nodes, [helper.make_opsetid("", 17)]))


def _sparse(model: Any) -> None:
    model.graph.sparse_initializer.add(dims=[4]).values.CopyFrom(_outside())


@pytest.mark.parametrize("hide", [_in_function, _sparse])
def test_model_sha256_refuses_external_data_outside_initializers(
    make_model: MakeModel, tmp_path: Path, hide: Callable[[Any], None]
) -> None:
    """An artifact with a reference to another file could read a model that another tenant registered."""
    model, file = onnx.load(make_model(weights=W)), tmp_path / "m.onnx"
    hide(model)
    file.write_bytes(model.SerializeToString())
    (tmp_path / "secret").write_bytes(bytes(16))
    with pytest.raises(InvalidRequest, match="as one file"):
        model_sha256(file, SourceFormat.ONNX)


def test_adapt_embeds_external_constants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.pipeline.adaptation.graph.ONE_FILE_BYTES", 10)
    monkeypatch.setattr("registry.pipeline.adaptation.graph._SMALL_BYTES", 10)
    nodes = [helper.make_node("Constant", [], ["w"], value=_outside()), helper.make_node("Add", ["x", "w"], ["z"])]
    file = _save(tmp_path / "m.onnx", nodes, [_value("x", ["n", 4])], [_value("z", ["n", 4])], {})
    (tmp_path / "secret").write_bytes(W[0].tobytes() + bytes(4))
    adapted = adapt(file, tmp_path / "adapted").file
    (tmp_path / "secret").unlink()
    assert np.allclose(_infer(adapted, x=X)["z"], X + np.append(W[0], 0))


@pytest.mark.parametrize(
    ("dtype", "label"), [(np.float32, "onnx-fp32"), (np.float16, "onnx-fp16"), (np.float64, "onnx-fp64")]
)
def test_plan_variants_names_source_by_weight_precision(tmp_path: Path, dtype: Any, label: str) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"])]
    inputs, outputs = [_value("x", ["n", 4], kind)], [_value("z", ["n", 3], kind)]
    model = _save(tmp_path / "m.onnx", nodes, inputs, outputs, {"w": W.astype(dtype)})
    request = Registration(architecture="a", task="b", file=model, accuracy=0.5)
    first, *others = plan_variants(request, SourceFormat.ONNX, precision_of(model))
    assert first.row.name == f"a.{label}.cpu"
    assert first.row.precision == label.removeprefix("onnx-")
    assert label not in [variant.row.name.split(".")[1] for variant in others]
    assert bool(others) == (dtype is not np.float64)


@pytest.mark.parametrize("operator", ["EPContext", "PythonOp", "PyCustomOpDef", "AzureTextToText", "OpenAIAudioToText"])
def test_adapt_refuses_operators_with_code(make_model: MakeModel, tmp_path: Path, operator: str) -> None:
    """Operators in a branch's subgraph are checked, too."""
    inner = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], domain="com.microsoft")], "b", [], [_value("y", [1])]
    )
    branch = helper.make_node("If", ["x"], ["scores"], then_branch=inner, else_branch=inner)
    with pytest.raises(InvalidRequest, match=f"{operator}, which contain compiled code or call code outside"):
        adapt(make_model(nodes=[branch]), tmp_path / "adapted")


# -- scalars, and other places of the batch ----------------------------------------------------------------------------
def _recurrent(path: Path, batch: str) -> Path:
    """Write `z = x * rate + sum of state`, with the batch of the state as its axis 1, named `batch`."""
    nodes = [
        helper.make_node("Mul", ["x", "rate"], ["fast"]),
        helper.make_node("ReduceSum", ["state", "layers"], ["sum"], keepdims=0),
        helper.make_node("Add", ["fast", "sum"], ["z"]),
        helper.make_node("Add", ["state", "fast"], ["next"]),
    ]
    inputs = [_value("x", [batch, 4]), _value("state", [2, batch, 4]), _value("rate", [])]
    outputs = [_value("z", [batch, 4]), _value("next", ["", "", 4] if not batch else [2, batch, 4])]
    return _save(path, nodes, inputs, outputs, {"layers": np.array([0])})


@pytest.mark.parametrize("batch", ["batch", ""])
def test_adapt_serves_scalars_and_state_of_recurrent_model(tmp_path: Path, batch: str) -> None:
    adapted = adapt(_recurrent(tmp_path / "state.onnx", batch), tmp_path / "adapted")
    assert adapted.parameters == ("rate",)
    assert any("rate has one value for a whole query" in note for note in adapted.notes)
    assert any("found by running it" in note for note in adapted.notes) == (not batch)
    state = np.random.default_rng(3).normal(size=(5, 2, 4)).astype(np.float32)
    found = _infer(adapted.file, x=X, state=state, rate=np.full(5, 3, np.float32))
    assert np.allclose(found["z"], X * 3 + state.sum(axis=1), rtol=1e-5)
    assert np.allclose(found["next"], state + X[:, None] * 3, rtol=1e-5)
    signature = read_signature(adapted.file, SourceFormat.ONNX)
    assert {spec.name: spec.shape[0] for spec in (*signature.inputs, *signature.outputs)} == dict.fromkeys(
        ("x", "state", "rate", "z", "next"), -1
    )


def test_adapt_makes_batch_of_one_with_scalar_dynamic(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "rate"], ["z"])]
    inputs = [_value("x", [1, 4]), _value("rate", [])]
    adapted = adapt(_save(tmp_path / "one.onnx", nodes, inputs, [_value("z", [1, 4])], {}), tmp_path / "adapted")
    assert adapted.parameters == ("rate",)
    assert not adapted.alone
    assert _shapes(adapted.file) == [(-1, 4), (-1,), (-1, 4)]
    assert np.allclose(_infer(adapted.file, x=X, rate=np.full(5, 3, np.float32))["z"], X * 3, rtol=1e-5)


def test_adapt_gives_model_without_batch_one(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMax", ["x"], ["z"], keepdims=0)]
    samples = _save(tmp_path / "one.onnx", nodes, [_value("x", ["samples"])], [_value("z", [])], {})
    adapted = adapt(samples, tmp_path / "adapted")
    assert adapted.alone
    assert "no batch dimension" in adapted.notes[0]
    assert _shapes(adapted.file) == [(1, -1), (1,)]
    assert _infer(adapted.file, x=X[:1])["z"].tolist() == [X[0].max()]


def test_adapt_takes_declared_absence_of_batch(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sub", ["x", "m"], ["z"]), helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0)]
    model = _save(tmp_path / "one.onnx", nodes[::-1], [_value("x", [""])], [_value("z", [""])], {})
    assert not adapt(model, tmp_path / "adapted").alone, "an unnamed first dimension is taken for the batch"
    adapted = adapt(model, tmp_path / "adapted", ("none",))
    assert adapted.alone
    assert np.allclose(_infer(adapted.file, x=X[:1])["z"], X[:1] - X[:1].mean(), atol=1e-6)
    with pytest.raises(InvalidRequest, match="says that no input has a batch"):
        adapt(model, tmp_path / "adapted", ("none", "x=1"))


def test_read_signature_names_remedy_for_unknown_batch(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMax", ["x"], ["z"], keepdims=1, axes=[0, 1])]
    model = _save(tmp_path / "odd.onnx", nodes, [_value("x", ["", 4])], [_value("z", [1, 1])], {})
    with pytest.raises(InvalidRequest, match=r"--batch-axis \(of ONNX; `none` if the model has no batch\)"):
        read_signature(adapt(model, tmp_path / "adapted").file, SourceFormat.ONNX)
