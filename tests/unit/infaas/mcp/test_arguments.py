"""Tests of the arguments and results of tools."""

import base64
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from infaas.client.client import Answer
from infaas.mcp.arguments import description, input_schema, needs_of, output_schema, structured, tensors_of
from schemas.errors import InvalidRequest
from schemas.generation import INPUTS, OUTPUTS
from schemas.headers import GENERATIVE_NEEDS
from schemas.rows.catalog import Task
from schemas.signature import TensorSpec


def spec(name: str, datatype: str, *shape: int, **more: Any) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=(-1, *shape), **more)


OUT = (spec("score", "FP32", 2), spec("label", "BYTES"))
TEXT = Task(name="sentiment", inputs=(spec("text", "BYTES"),), outputs=OUT, classes=("bad", "good"))
GRID = Task(name="grid", inputs=(spec("x", "FP32", -1, 2), spec("rate", "INT64", default=8000)), outputs=OUT)


WRITING = Task(name="writing", inputs=INPUTS, outputs=OUTPUTS, measure="contains")


def is_valid(task: Task, arguments: Any) -> bool:
    schema = input_schema(task)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema).is_valid(arguments)


def test_text_and_file_become_one_element() -> None:
    for value, found in (("été", "été".encode()), ({"base64": base64.b64encode(b"\x89PNG").decode()}, b"\x89PNG")):
        assert is_valid(TEXT, {"text": value})
        tensors = tensors_of(TEXT, {"text": value})
        assert tensors["text"].shape == (1,)
        assert tensors["text"][0] == found


def test_nested_lists_become_a_tensor_of_one_row() -> None:
    arguments = {"x": [[1, 2.5], [3, 4], [5, 6]]}
    assert is_valid(GRID, arguments)
    tensors = tensors_of(GRID, arguments)
    assert tensors.keys() == {"x"}
    assert (tensors["x"].shape, tensors["x"].dtype) == ((1, 3, 2), np.float32)
    assert tensors_of(GRID, arguments | {"rate": 16000})["rate"].tolist() == [16000]


@pytest.mark.parametrize(
    ("task", "arguments", "words"),
    [
        (TEXT, {}, "'text' is missing"),
        (TEXT, {"text": 5}, "must be a text"),
        (TEXT, {"text": {"base64": "!"}}, "no valid base64"),
        (TEXT, {"text": "a", "colour": 1}, "unknown argument 'colour'"),
        (GRID, {"x": [[1, 2, 3]]}, r"shape \[1, 3\]"),
        (GRID, {"x": [[1, "two"]]}, "'x'"),
        (GRID, {"x": [[1, 2], [3]]}, "'x'"),
        (GRID, {"x": [[1, 2]], "rate": 1.5}, "'rate'"),
        (GRID, {"x": None}, "'x'"),
    ],
)
def test_wrong_argument_is_named(task: Task, arguments: dict[str, Any], words: str) -> None:
    assert not is_valid(task, arguments) or "base64" in words or [1, 2] in arguments.get("x", [])
    with pytest.raises(InvalidRequest, match=words):
        tensors_of(task, arguments)


def test_needs_are_an_object_of_their_own() -> None:
    arguments = {"text": "a", "needs": {"latency_ms": 50, "min_accuracy": 0.9, "max_cost": 1, "allow_late": True}}
    assert is_valid(TEXT, arguments)
    assert needs_of(TEXT, arguments) == {"latency_ms": 50, "min_accuracy": 0.9, "max_cost": 1, "allow_late": True}
    assert needs_of(TEXT, {}) == {"allow_late": False}
    for wrong in ({"latency": 5}, {"latency_ms": "fast"}):
        assert not is_valid(TEXT, {"text": "a", "needs": wrong})
        with pytest.raises(InvalidRequest, match="needs"):
            needs_of(TEXT, {"needs": wrong})


def test_generative_task_takes_its_needs_and_options() -> None:
    needs = {"latency_ms": 900, "ttft_ms": 500, "tpot_ms": 40.5, "max_tokens": 20, "max_cost": 0.1}
    arguments = {"text_input": "hello", "needs": needs, "parameters": {"temperature": 0, "seed": 7, "stop": ["x", "y"]}}
    assert is_valid(WRITING, arguments)
    assert tensors_of(WRITING, arguments)["text_input"].tolist() == [b"hello"]
    sent = {"temperature": 0, "seed": 7, "stop": '["x","y"]'}
    assert needs_of(WRITING, arguments) == needs | {"allow_late": False, "parameters": sent}
    assert needs_of(WRITING, {"parameters": {"stop": "x"}}).get("parameters") == {"stop": "x"}
    assert needs_of(WRITING, {}) == {"allow_late": False}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"needs": {"max_tokens": 2.5}}, "max_tokens"),
        ({"needs": {"first_token_ms": 5}}, "first_token_ms"),
        ({"parameters": {"temperature": 9}}, "temperature must be 0 to 5"),
        ({"parameters": {"chat": "yes"}}, "chat"),
        ({"parameters": {"max_tokens": 5}}, "'parameters' has no 'max_tokens'"),
        ({"parameters": ["chat"]}, "'parameters'"),
    ],
)
def test_wrong_need_or_option_of_a_generative_task_is_named(arguments: dict[str, Any], words: str) -> None:
    assert not is_valid(WRITING, {"text_input": "hello"} | arguments)
    with pytest.raises(InvalidRequest, match=words):
        needs_of(WRITING, arguments)


def test_task_of_tensors_has_no_needs_of_tokens() -> None:
    properties = input_schema(TEXT)["properties"]
    assert not set(GENERATIVE_NEEDS) & set(properties["needs"]["properties"])
    assert "parameters" not in properties
    with pytest.raises(InvalidRequest, match="max_tokens"):
        needs_of(TEXT, {"needs": {"max_tokens": 5}})


def test_cost_names_its_unit() -> None:
    for task, unit in ((TEXT, "1000 such queries"), (WRITING, "1000 tokens")):
        allowed = input_schema(task)["properties"]["needs"]["properties"]["max_cost"]
        charged = output_schema(task)["properties"]["cost"]
        assert unit in allowed["description"]
        assert unit in charged["description"]


def test_input_called_needs_keeps_its_name() -> None:
    task = Task(name="odd", inputs=(spec("needs", "FP32"),), outputs=OUT)
    assert tensors_of(task, {"needs": 2.0, "infaas_needs": {"latency_ms": 5}})["needs"].tolist() == [2.0]
    assert needs_of(task, {"needs": 2.0, "infaas_needs": {"latency_ms": 5}}).get("latency_ms") == 5


def test_structured_result_has_no_batch_axis() -> None:
    outputs = {"score": np.array([[0.5, np.nan]], np.float32), "label": np.array([b"good"], object)}
    answer = Answer(
        outputs=outputs, id="1", variant="v", worker="w", accuracy=0.9, cost=None, predicted_ms=1, queue_ms=1,
        compute_ms=1, total_ms=2,
    )  # fmt: skip
    found = structured(answer)
    assert found["outputs"] == {"score": [0.5, None], "label": "good"}
    assert (found["variant"], found["accuracy"], found["cost"]) == ("v", 0.9, None)
    assert Draft202012Validator(output_schema(TEXT)).is_valid(found)


def test_description_names_the_classes() -> None:
    assert description(TEXT) == "Inference task sentiment, quality measured as accuracy. Classes: bad, good."
