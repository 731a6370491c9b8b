"""Tests of archives of exported programs: `make_safe` rewrites them as plain data, and no other archive is loaded."""

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtimes.torch.exported_archive import check_safe, make_safe
from schemas.errors import InvalidRequest, ModelFailed
from tests.exported_programs import SIZE, program_document, touching, write_program


class _Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, ("raise SystemExit('a pickle was loaded')",)


PICKLE = pickle.dumps(_Bomb())


def _changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    document = program_document()
    change(document["graph_module"])
    return document


def _argument(**argument: Any) -> dict[str, Any]:
    added = {"name": "other", "arg": argument, "kind": 1}
    return _changed(lambda module: module["graph"]["nodes"][0]["inputs"].append(added))


def _out_tree(**tree: Any) -> dict[str, Any]:
    whole = {"context": "null", "children_spec": [], **tree}
    return _changed(lambda module: module["module_call_graph"][0]["signature"].update(out_spec=json.dumps([1, whole])))


def _in_names(*names: str) -> dict[str, Any]:
    given = {"type": "builtins.dict", "context": json.dumps(names), "children_spec": []}
    both = {"type": "builtins.tuple", "context": "null", "children_spec": [given, given]}
    return _changed(lambda module: module["module_call_graph"][0]["signature"].update(in_spec=json.dumps([1, both])))


def test_make_safe_keeps_only_data(tmp_path: Path) -> None:
    source = write_program(tmp_path / "m.pt2", entries={"data/sample_inputs/model.pt": PICKLE})
    make_safe(source, tmp_path / "safe", ["scores"])
    with zipfile.ZipFile(tmp_path / "safe") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    assert content["m/data/sample_inputs/model.pt"] == b""
    assert content["m/extra/infaas-outputs.json"] == b'["scores"]'
    assert content["m/data/weights/weight_0"] == bytes(16)
    assert all(PICKLE not in entry for entry in content.values())
    graph = json.loads(content["m/models/model.json"])
    assert graph["graph_module"]["graph"]["nodes"][0]["metadata"] == {}
    assert "guards_code" not in graph
    assert graph["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0]["as_expr"]["expr_str"] == SIZE
    check_safe(tmp_path / "safe")


def test_make_safe_replaces_output_names(tmp_path: Path) -> None:
    source, once, twice = write_program(tmp_path / "m.pt2"), tmp_path / "once", tmp_path / "twice"
    make_safe(source, once, ["a"])
    make_safe(once, twice, ["b"])
    with zipfile.ZipFile(twice) as archive:
        assert archive.namelist().count("m/extra/infaas-outputs.json") == 1
        assert archive.read("m/extra/infaas-outputs.json") == b'["b"]'
    check_safe(twice)


@pytest.mark.parametrize(
    "document",
    [
        touching(Path("/nowhere")),
        program_document("torch.serialization.os.system"),
        program_document("torch.load"),
        program_document("torch.ops.load_library"),
        program_document("torch.ops.aten.__class__.mro"),
        program_document("torch.ops.aten.relu.__init__"),
        program_document("torch.ops.mine.relu.default"),
        program_document("torch.ops.aten.from_file.default"),
        program_document("torch.ops.aten.empty.memory_format"),
        program_document("torch.ops.higher_order.triton_kernel_wrapper_mutation"),
        program_document("_operator.methodcaller"),
        program_document("math.__loader__.load_module"),
        program_document("#extension:op"),
        _argument(as_custom_obj={"name": "x", "class_fqn": "__torch__.torch.classes.Mine"}),
        _argument(as_operator="torch.load"),
        _argument(as_string='"); system("id'),
        _argument(as_string="a\nimport os"),
        _argument(as_graph={"name": "sub", "graph": {"nodes": []}}),
        _argument(as_int=1, as_float=1.0),
        _argument(as_tensor={"name": "x): import os"}),
        _out_tree(type="collections.defaultdict", context='{"default_factory_module": "os"}'),
        _out_tree(type="builtins.dict", context='[{"__enum__": true, "fqn": "antigravity:x", "name": "x"}]'),
        _in_names("x, y=exit()"),
        _changed(lambda module: module["module_call_graph"][0]["signature"].update(forward_arg_names=["x=exit()"])),
        _changed(lambda module: module["graph"]["inputs"][0]["as_tensor"].update(name="x\n")),
        {**program_document(), "range_constraints": {"u99999999999": {"min_val": 0, "max_val": 1}}},
        {"graph_module": {}},
    ],
)
def test_make_safe_refuses_executable_programs(tmp_path: Path, document: dict[str, Any]) -> None:
    source = write_program(tmp_path / "m.pt2", document)
    with pytest.raises(InvalidRequest, match="it contains code besides the model"):
        make_safe(source, tmp_path / "safe")


def test_make_safe_escapes_assertion_messages(tmp_path: Path) -> None:
    document = program_document("torch.ops.aten._assert_scalar.default")
    message = {"name": "assert_msg", "arg": {"as_string": 'u0 >= 0 on node "ge"\n'}, "kind": 1}
    document["graph_module"]["graph"]["nodes"][0]["inputs"].append(message)
    make_safe(write_program(tmp_path / "m.pt2", document), tmp_path / "safe")
    with zipfile.ZipFile(tmp_path / "safe") as archive:
        assert rb"u0 >= 0 on node  ge  " in archive.read("m/models/model.json")


@pytest.mark.parametrize(
    ("entry", "content", "said"),
    [
        ("data/aotinductor/model/a.so", b"?", "is not plain data"),
        ("data/constants/custom_obj_0", b"?", "is not plain data"),
        ("data/constants/opaque_obj_0", b"?", "is not plain data"),
        ("data/weights/x", b"?", "is not plain data"),
        ("models/model.json", b"[" * 1_000_000, "is refused"),
    ],
    ids=["native code", "custom object", "opaque object", "weights", "deep nesting"],
)
def test_make_safe_refuses_entries(tmp_path: Path, entry: str, content: bytes, said: str) -> None:
    source = write_program(tmp_path / "m.pt2", entries={entry: content})
    with pytest.raises(InvalidRequest, match=said):
        make_safe(source, tmp_path / "safe")


@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_make_safe_refuses_pickled_tensors(tmp_path: Path, kind: str) -> None:
    config = json.dumps({"config": {"w": {"path_name": "weight_0", "use_pickle": True}}}).encode()
    source = write_program(tmp_path / "m.pt2", entries={f"data/{kind}/model_{kind}_config.json": config})
    with pytest.raises(InvalidRequest, match="needs unpickling"):
        make_safe(source, tmp_path / "safe")


def test_make_safe_checks_sizes_of_stored_tensors(tmp_path: Path) -> None:
    name = "data/weights/model_weights_config.json"
    with zipfile.ZipFile(write_program(tmp_path / "a.pt2")) as archive:
        config = json.loads(archive.read(f"m/{name}"))
    config["config"]["w"]["tensor_meta"]["sizes"] = [{"as_expr": {"expr_str": "exit()"}}]
    changed = {name: json.dumps(config).encode()}
    with pytest.raises(InvalidRequest, match="not an expression over sizes"):
        make_safe(write_program(tmp_path / "m.pt2", entries=changed), tmp_path / "safe")


@pytest.mark.parametrize("name", ["m/models/model.json", "m/models/MODEL.json", "other/models/model.json"])
def test_make_safe_refuses_second_graph(tmp_path: Path, name: str) -> None:
    """Torch and Python can choose different entries of the same name."""
    source = write_program(tmp_path / "m.pt2")
    with zipfile.ZipFile(source, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(name, json.dumps(touching(tmp_path / "owned")))
    with pytest.raises(InvalidRequest, match="an entry twice, or several programs"):
        make_safe(source, tmp_path / "safe")


def test_make_safe_refuses_compressed_archive(tmp_path: Path) -> None:
    source = write_program(tmp_path / "m.pt2")
    with zipfile.ZipFile(source, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/extra/zeros", bytes(1 << 20))
    with pytest.raises(InvalidRequest, match="is compressed"):
        make_safe(source, tmp_path / "safe")


def test_make_safe_refuses_damaged_member(tmp_path: Path) -> None:
    source = write_program(tmp_path / "m.pt2")
    content = io.BytesIO(source.read_bytes())
    content.getbuffer()[source.read_bytes().index(bytes(16))] = 1
    source.write_bytes(content.getvalue())
    with pytest.raises(InvalidRequest, match="damaged archive"):
        make_safe(source, tmp_path / "safe")


@pytest.mark.parametrize("document", [touching(Path("/nowhere")), program_document()])
def test_check_safe_refuses_unprocessed_archive(tmp_path: Path, document: dict[str, Any]) -> None:
    with pytest.raises(ModelFailed, match=r"is not loaded.*register it again"):
        check_safe(write_program(tmp_path / "artifact", document))
