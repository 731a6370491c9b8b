"""Archives in the format of `torch.export.save`, written without torch; some contain code that loading would run."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SIZE = "Symbol('s77', positive=True, integer=True)"
_CPU = {"type": "cpu", "index": None}


def _tensor(*sizes: Any) -> dict[str, Any]:
    return {
        "dtype": 7, "sizes": list(sizes), "requires_grad": False, "device": _CPU,
        "strides": [{"as_int": 1}] * len(sizes), "storage_offset": {"as_int": 0}, "layout": 7,
    }  # fmt: skip


def program_document(target: str = "torch.ops.aten.relu.default", expression: str = SIZE) -> dict[str, Any]:
    """Return the JSON of a program that calls one operator on a tensor with a variable number of rows."""
    batch = {"as_expr": {"expr_str": expression, "hint": {"as_int": 2}}}
    x, y = {"as_tensor": {"name": "x"}}, {"as_tensor": {"name": "y"}}
    leaf = {"type": None, "context": None, "children_spec": []}
    nothing = {"type": "builtins.dict", "context": "[]", "children_spec": []}
    given = {"type": "builtins.tuple", "context": "null", "children_spec": [leaf]}
    both = {"type": "builtins.tuple", "context": "null", "children_spec": [given, nothing]}
    node = {
        "target": target, "inputs": [{"name": "self", "arg": x, "kind": 1}], "outputs": [y],
        "metadata": {"stack_trace": "File net.py"}, "is_hop_single_tensor_return": None, "name": "y",
    }  # fmt: skip
    graph = {
        "inputs": [x], "outputs": [y], "nodes": [node],
        "tensor_values": {"x": _tensor(batch, {"as_int": 4}), "y": _tensor(batch, {"as_int": 4})},
        "sym_int_values": {}, "sym_bool_values": {}, "is_single_tensor_return": False, "custom_obj_values": {},
        "sym_float_values": {},
    }  # fmt: skip
    call = {
        "inputs": [], "outputs": [], "in_spec": json.dumps([1, both]), "out_spec": json.dumps([1, leaf]),
        "forward_arg_names": ["x"],
    }  # fmt: skip
    return {
        "graph_module": {
            "graph": graph,
            "signature": {
                "input_specs": [{"user_input": {"arg": x}}],
                "output_specs": [{"user_output": {"arg": y}}],
            },
            "module_call_graph": [{"fqn": "", "signature": call}],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
        "opset_version": {"aten": 10},
        "range_constraints": {"s77": {"min_val": 1, "max_val": 64}},
        "schema_version": {"major": 8, "minor": 20},
        "verifiers": ["ATEN"],
        "torch_version": "2.15.0+cpu",
        "guards_code": ["L['x'].size()[0] <= 64"],
    }


def write_program(
    file: Path, document: Mapping[str, Any] | None = None, entries: Mapping[str, bytes] | None = None
) -> Path:
    """Write a program's archive; `entries` are added to its files and replace files of the same name."""
    weight = {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": _tensor({"as_int": 4})}
    contents = {
        "archive_format": b"pt2",
        "archive_version": b"0",
        ".data/version": b"6",
        "byteorder": b"little",
        "models/model.json": json.dumps(document or program_document()).encode(),
        "data/weights/weight_0": bytes(16),
        "data/weights/model_weights_config.json": json.dumps({"config": {"w": weight}}).encode(),
        "data/constants/model_constants_config.json": b'{"config": {}}',
        "data/sample_inputs/model.pt": b"",
    }
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {**contents, **(entries or {})}.items():
            archive.writestr(f"m/{name}", content)
    return file


def touching(file: Path) -> dict[str, Any]:
    """Return a program with code that creates this file when torch evaluates the size of the input."""
    return program_document(expression=f"__import__('pathlib').Path({str(file)!r}).touch() or {SIZE}")
