"""Which ends of a batch job are topics, and which topics it may write to."""

from pathlib import Path

import pytest

from infaas.cli.batch_topics import topics_of
from schemas.errors import OperatorError


def test_both_ends_are_topics_or_neither() -> None:
    assert topics_of(Path("topic:in"), Path("topic:out")) == ("in", "out")
    assert topics_of(Path("in.jsonl"), Path("out.jsonl")) is None
    for ends in (("topic:in", "out.jsonl"), ("in.jsonl", "topic:out")):
        with pytest.raises(OperatorError, match="write both as topic:NAME"):
            topics_of(*map(Path, ends))


@pytest.mark.parametrize("sink", ["in", "infaas.tasks.digits", "infaas.dead-letters", "__consumer_offsets", "a" * 249])
def test_answers_go_to_no_topic_that_something_else_reads(sink: str) -> None:
    with pytest.raises(OperatorError, match="answers cannot go to"):
        topics_of(Path("topic:in"), Path(f"topic:{sink}"))


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a" * 250])
def test_what_no_topic_can_be_called_is_said(name: str) -> None:
    with pytest.raises(OperatorError, match="no name of a topic"):
        topics_of(Path(f"topic:{name}"), Path("topic:out"))
