"""Tests of `topics_of`: the topics of a batch job as its source and sink."""

from pathlib import Path

import pytest

from infaas.cli.batch_topics import topics_of
from schemas.errors import OperatorError


def test_topics_of_requires_both_ends_or_none() -> None:
    assert topics_of(Path("topic:in"), Path("topic:out")) == ("in", "out")
    assert topics_of(Path("in.jsonl"), Path("out.jsonl")) is None
    for ends in (("topic:in", "out.jsonl"), ("in.jsonl", "topic:out")):
        with pytest.raises(OperatorError, match="must both be topics"):
            topics_of(*map(Path, ends))


@pytest.mark.parametrize("sink", ["in", "infaas.tasks.digits", "infaas.dead-letters", "__consumer_offsets", "a" * 249])
def test_topics_of_refuses_sink_with_other_readers(sink: str) -> None:
    with pytest.raises(OperatorError, match="answers cannot go to"):
        topics_of(Path("topic:in"), Path(f"topic:{sink}"))


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a" * 250])
def test_topics_of_refuses_invalid_topic_name(name: str) -> None:
    with pytest.raises(OperatorError, match="not a topic name"):
        topics_of(Path(f"topic:{name}"), Path("topic:out"))
