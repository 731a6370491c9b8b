"""Tests of the names of topics."""

import pytest

from schemas.names import is_name
from schemas.topics import may_reply_to, offline_topic, query_topic, task_of, task_topic


@pytest.mark.parametrize("task", ["digits", "offline", "a-offline"])
def test_task_of_reads_task_from_topic(task: str) -> None:
    assert is_name(task)
    assert task_of(task_topic(task)) == task_of(offline_topic(task)) == task
    assert query_topic(task, offline=True) == offline_topic(task) != query_topic(task, offline=False)
    assert not may_reply_to(offline_topic(task))


def test_task_name_cannot_equal_offline_topic() -> None:
    assert not is_name("digits.offline")
