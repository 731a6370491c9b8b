"""Tests of the flags of `infaas batch`: needs and options of generated text."""

from pathlib import Path
from typing import Any

import pytest

from infaas.cli.batch_flags import BatchFlags
from schemas.errors import InvalidRequest
from schemas.generation import INPUTS, OUTPUTS
from schemas.rows.catalog import Task
from tests.example_rows import a_task

WRITING = Task(name="writing", inputs=INPUTS, outputs=OUTPUTS)


def flags(**given: Any) -> BatchFlags:
    return BatchFlags(rows=Path("in.jsonl"), results=Path("out.jsonl"), task="writing", **given)


def test_flags_of_generated_text_become_options_of_each_query() -> None:
    given = flags(max_tokens=20, parameters=["temperature=0", "stop=.", "chat=true"])
    given.check(WRITING)
    parameters = {"temperature": 0, "stop": ".", "chat": True}
    assert given.query_options("tiny") == {"target": "tiny", "max_tokens": 20, "parameters": parameters}
    assert given.needs.max_tokens == 20
    assert flags().query_options(None) == {}


@pytest.mark.parametrize(
    ("parameter", "words"),
    [("temprature=0", "did you mean temperature"), ("temperature=9", "0 to 5"), ("seed", "write NAME=VALUE")],
)
def test_wrong_parameter_is_refused_before_the_first_row(parameter: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        flags(parameters=[parameter]).check(WRITING)


def test_max_tokens_is_refused_for_task_without_tokens() -> None:
    flags(parameters=["rate=8000"]).check(a_task("digits"))
    with pytest.raises(InvalidRequest, match="digits is not generative"):
        flags(max_tokens=5).check(a_task("digits"))
