from schemas.topics import ingress_topic, task_topic
from selector.policy.replicas import TaskShare
from selector.service import task_shares


def test_shares_are_the_partitions_that_are_read() -> None:
    digits, words = task_topic("digits"), task_topic("words")
    reading = [(digits, 1), (digits, 3), (words, 2), (ingress_topic("acme"), 0)]
    assert task_shares(reading, {digits: 4, words: 2}) == {
        "digits": TaskShare(frozenset({1, 3}), 4),
        "words": TaskShare(frozenset({2}), 3),  # a partition that the catalog does not know yet
    }
