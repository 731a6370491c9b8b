"""Names of topics."""

import pytest

from schemas.names import is_name
from schemas.topics import may_reply_to, offline_topic, query_topic, task_of, task_topic


@pytest.mark.parametrize("task", ["digits", "offline", "a-offline"])
def test_a_topic_says_of_which_task_it_is(task: str) -> None:
    assert is_name(task)
    assert task_of(task_topic(task)) == task_of(offline_topic(task)) == task
    assert query_topic(task, offline=True) == offline_topic(task) != query_topic(task, offline=False)
    assert not may_reply_to(offline_topic(task))


def test_no_task_is_named_like_the_offline_topic_of_another() -> None:
    assert not is_name("digits.offline")
