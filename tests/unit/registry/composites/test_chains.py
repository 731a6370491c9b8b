"""Tests of the feeds of chains and of `ChainSession`."""

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from infaas.cli.composites import parse_feeds
from registry.composites.chains import wire
from registry.request import ChainRequest
from runtimes.composite import ChainDocument, ChainSession, Feed, Stage
from runtimes.protocol import Tensors
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import Task
from schemas.signature import TensorSpec


def task(name: str, inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]], **changes: Any) -> Task:
    return Task(
        name=name,
        inputs=tuple(TensorSpec(name=n, datatype="FP32", shape=s, **changes) for n, s in inputs.items()),
        outputs=tuple(TensorSpec(name=n, datatype="FP32", shape=s) for n, s in outputs.items()),
    )


def source(**outputs: tuple[int, ...]) -> Task:
    return task("before", {"x": (-1, 4)}, outputs)


def target(**inputs: tuple[int, ...]) -> Task:
    return task("after", inputs, {"scores": (-1, 3)})


def test_wire_prefers_declared_then_equal_name_then_only_output() -> None:
    assert wire(source(x=(-1, 4), y=(-1, 4)), target(x=(-1, 4)), {}) == {"x": Feed(output="x")}
    assert wire(source(x=(-1, 4), y=(-1, 4)), target(x=(-1, 4)), {"x": "y"}) == {"x": Feed(output="y")}
    assert wire(source(scaled=(-1, 4)), target(x=(-1, -1)), {}) == {"x": Feed(output="scaled")}


@pytest.mark.parametrize(
    ("before", "after", "declared", "text"),
    [
        (source(a=(-1, 4), b=(-1, 4)), target(x=(-1, 4)), {}, "by --feed after.x=OUTPUT"),
        (source(a=(-1, 4)), target(x=(-1, 4)), {"x": "z"}, "it has a"),
        (source(a=(-1, 4)), target(x=(-1, 4)), {"z": "a"}, "no input 'z'"),
        (source(a=(-1, 5)), target(x=(-1, 4)), {}, r"its shape is \[-1, 5\]"),
        (source(a=(-1, -1)), target(x=(-1, 4)), {}, r"but must be \[-1, 4\]"),
        (source(a=(-1, 4, 1)), target(x=(-1, 4)), {}, "its shape"),
        (source(a=(-1,)), target(x=(-1, 4), y=(-1, 4)), {}, "has no output for the input 'x'"),
    ],
)
def test_wire_refuses_unsuitable_outputs(before: Task, after: Task, declared: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        wire(before, after, declared)


def test_wire_refuses_other_datatypes() -> None:
    numbers = Task(name="after", inputs=(TensorSpec(name="x", datatype="INT64", shape=(-1, 4)),), outputs=())
    with pytest.raises(InvalidRequest, match="it is FP32, but must be INT64"):
        wire(source(x=(-1, 4)), numbers, {})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"tasks": ("a",)}, "at least two"),
        ({"name": "a"}, "one of the tasks"),
        ({"feeds": {"a": {}}}, "follows no other task of the chain"),
        ({"through": (("v",),)}, "names 1 variants for 2 tasks"),
    ],
)
def test_chain_request_check_refuses_invalid_chains(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        replace(ChainRequest(name="both", tasks=("a", "b")), **changes).check()


def test_parse_feeds_reads_command_line() -> None:
    assert parse_feeds(["b.x=y", "b.z=a.b", "c.x=y"]) == {"b": {"x": "y", "z": "a.b"}, "c": {"x": "y"}}
    for wrong in ("x=y", "b.x", ".x=y", "b.=y", "b.x="):
        with pytest.raises(OperatorError, match=r"TASK\.INPUT=OUTPUT"):
            parse_feeds([wrong])


# -- computing ---------------------------------------------------------------------------------------------------------
class Adds:
    """Stage that adds one to its input `x`."""

    def infer(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        return {"y": inputs["x"] + 1, "unused": inputs["x"]}

    def close(self) -> None:
        self.closed = True


def chain(*feeds: Feed) -> tuple[ChainSession, list[Adds]]:
    stages = [Adds() for _ in range(len(feeds) + 1)]
    described = tuple(Stage(variant="a.b.cpu", runtime="told", precision="fp32", artifact="0" * 64) for _ in stages)
    return ChainSession(ChainDocument(stages=described, feeds=tuple({"x": feed} for feed in feeds)), stages), stages


def test_chain_session_feeds_outputs_to_next_stage() -> None:
    session, stages = chain(Feed(output="y"), Feed(output="y"))
    assert session.infer({"x": np.array([1, 5])})["y"].tolist() == [4, 8]
    session.close()
    assert [stage.closed for stage in stages] == [True, True, True]


def test_chain_session_refuses_numbers_outside_table() -> None:
    session, _ = chain(Feed(output="y", below=8))
    assert session.infer({"x": np.array([6])})["y"].tolist() == [8]
    for outside in (7, -2):
        with pytest.raises(ValueError, match="takes numbers from 0 to 7"):
            session.infer({"x": np.array([outside])})
