"""Tests of topic names."""

from collections import Counter

import pytest

from schemas.errors import InvalidRequest
from schemas.headers import ID, REPLY_TO, as_text
from schemas.names import is_name
from schemas.query import parse_query
from schemas.topics import (
    WORKER_GROUPS,
    is_topic,
    may_reply_to,
    offline_topic,
    query_topic,
    task_of,
    task_topic,
    variant_group,
)


@pytest.mark.parametrize("task", ["digits", "offline", "a-offline"])
def test_task_of_reads_task_from_topic(task: str) -> None:
    assert is_name(task)
    assert task_of(task_topic(task)) == task_of(offline_topic(task)) == task
    assert query_topic(task, offline=True) == offline_topic(task) != query_topic(task, offline=False)
    assert not may_reply_to(offline_topic(task))


def test_task_name_cannot_equal_offline_topic() -> None:
    assert not is_name("digits.offline")


@pytest.mark.parametrize("name", ["replies", "a" * 249, "A.b_c-9", "infaas.replies.gw", "infaas.results.digits"])
def test_reply_topic_accepts_valid_names(name: str) -> None:
    assert may_reply_to(name)
    assert parse_query("digits", {ID: "1", REPLY_TO: name}, 0).reply_to == name


@pytest.mark.parametrize("name", ["x" * 40_000, "a" * 250, "../../etc/passwd", ".", "..", "a b", "é", "a\n", "a\ufffd"])
def test_reply_topic_refuses_illegal_kafka_names(name: str) -> None:
    assert not is_topic(name)
    assert not may_reply_to(name)
    with pytest.raises(InvalidRequest, match="not the name of a topic"):
        parse_query("digits", {ID: "1", REPLY_TO: name}, 0)


@pytest.mark.parametrize("name", ["infaas.status", "infaas.tasks.digits", "infaas.dead-letters", "__consumer_offsets"])
def test_reply_topic_refuses_system_topics(name: str) -> None:
    with pytest.raises(InvalidRequest, match="topic of the system"):
        parse_query("digits", {ID: "1", REPLY_TO: name}, 0)


@pytest.mark.parametrize("header", [("name\udcff", b"x"), ("name", b"\xff")])
def test_as_text_refuses_headers_that_are_not_utf8(header: tuple[str, bytes]) -> None:
    assert as_text([("naïve", "für".encode()), ("none", None)]) == {"naïve": "für", "none": ""}
    with pytest.raises(UnicodeError):
        as_text([("good", b"x"), header])


def test_variant_groups_are_stable_and_even() -> None:
    """Another group than before would begin at other offsets."""
    assert variant_group("digits-mlp.onnx-fp32.cpu") == "infaas.workers.0"
    groups = Counter(variant_group(f"mlp{number}.onnx-fp32.cpu") for number in range(1000))
    assert groups.keys() == set(WORKER_GROUPS)
    assert max(groups.values()) < 2 * 1000 / len(WORKER_GROUPS)
