"""Tests of the verdict on a broker's answer about a batch."""

import pytest
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, RequestTimedOutError

from broker.kafka.types import KafkaError
from broker.producing.produce_api import Verdict, error_of, judge, may_be_written


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (0, Verdict.WRITTEN),
        (46, Verdict.WRITTEN),  # a duplicate sequence: the batch is written
        (3, Verdict.AGAIN),  # unknown topic or partition: the partition may have moved
        (5, Verdict.AGAIN),  # no leader
        (6, Verdict.AGAIN),  # another leader
        (7, Verdict.AGAIN),  # not on all replicas in time
        (19, Verdict.AGAIN),  # too few replicas
        (56, Verdict.AGAIN),  # a storage error
        (10, Verdict.SPLIT),
        (18, Verdict.SPLIT),
        (45, Verdict.RENEW),  # out of sequence
        (47, Verdict.RENEW),  # an old epoch
        (59, Verdict.RENEW),  # an unknown producer id
        (29, Verdict.REFUSED),  # not allowed
        (87, Verdict.REFUSED),  # an invalid record
    ],
)
def test_judge_returns_verdict_of_each_code(code: int, verdict: Verdict) -> None:
    assert judge(error_of(code)) is verdict


@pytest.mark.parametrize(
    ("error", "maybe"),
    [
        (None, False),
        (NodeNotReadyError(), False),
        (KafkaConnectionError(), True),
        (RequestTimedOutError(), True),
        (error_of(7), True),
        (error_of(10), False),
    ],
)
def test_may_be_written_by_error(error: KafkaError | None, maybe: bool) -> None:
    assert may_be_written(error) is maybe
