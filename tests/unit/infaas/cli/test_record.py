"""Tests of recordings: which records are arrivals, their times and kinds; the integration tests read a real log."""

import asyncio
import os
import signal

import pytest
from msgspec.structs import astuple

from broker.kafka.types import Record
from infaas.cli.record import Recording, follow_log, kind_of, read_query
from schemas.query import Mode
from schemas.topics import LANES
from selector.admission.received_query import QueryReader
from selector.dispatch.dispatcher import moved
from simulator.trace import QueryKind
from tests.unit.infaas.shell import Shell

ONLINE, OFFLINE, INGRESS = "infaas.tasks.digits", "infaas.tasks.digits.offline", "infaas.ingress.acme"

EVENT = b'{"specversion": "1.0", "id": "1", "minaccuracy": 0.9}'


def record(topic: str = ONLINE, at_ms: int = 1_000, value: bytes = b"{}", **fields: str) -> Record:
    headers = [(name.replace("_", "-"), text.encode()) for name, text in fields.items()]
    return Record(topic, 1, 7, at_ms, 0, b"k", value, tuple(headers))


def moved_to(topic: str, original: Record, at_ms: int) -> Record:
    """Return the record that a selector writes when it moves a query."""
    query, _fields, headers, *_ = astuple(QueryReader().read(original, 0.0, offline=True))
    return Record(topic, 1, 7, at_ms, 0, b"k", original.value, tuple(moved(query, headers, 0.0)))


def recorded(*records: Record, since_ms: float = 0.0, until_ms: float = 1e9) -> list[tuple[float, QueryKind]]:
    recording = Recording(since_ms, until_ms)
    for one in records:
        recording.add(one)
    trace = recording.trace()
    return [(time, trace.kinds[kind]) for time, kind in zip(trace.time_s.tolist(), trace.kind.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (record(infaas_id="1"), QueryKind(task="digits")),
        (
            record(infaas_id="1", infaas_latency_ms="50", infaas_min_accuracy="0.9", infaas_max_cost="2"),
            QueryKind(task="digits", latency_ms=50, min_accuracy=0.9, max_cost=2),
        ),
        (
            record(infaas_id="1", infaas_batch="8", infaas_target="cnn@2", infaas_tenant="acme"),
            QueryKind(task="digits", batch=8, target="cnn@2", tenant="acme"),
        ),
        (record(infaas_id="1", infaas_reply_to="infaas.tenants.acme.results"), QueryKind(task="digits")),
        (record(OFFLINE, infaas_id="1", infaas_mode="online"), QueryKind(task="digits", mode=Mode.OFFLINE)),
        (
            record(INGRESS, infaas_id="1", infaas_task="digits", infaas_tenant="globex"),
            QueryKind(task="digits", tenant="acme"),
        ),
        (
            record(
                value=EVENT,
                content_type="application/cloudevents+json",
            ),
            QueryKind(task="digits", min_accuracy=0.9),
        ),
        (record(infaas_id="1", infaas_deadline_ms="1080.4"), QueryKind(task="digits", latency_ms=80)),
        (record(infaas_id="1", infaas_deadline_ms="900"), QueryKind(task="digits", latency_ms=0)),
        (
            record(infaas_id="1", infaas_deadline_ms="1060", infaas_latency_ms="50.5"),
            QueryKind(task="digits", latency_ms=50.5),
        ),
    ],
    ids=range(10),
)
def test_record_has_kind_of_its_headers(read: Record, kind: QueryKind) -> None:
    assert kind_of(read_query(read)[0]) == kind


def test_recording_orders_by_send_time_from_the_first() -> None:
    precise = record(at_ms=1_001, infaas_id="2", infaas_sent_ns="1000250000")
    found = recorded(record(at_ms=3_000, infaas_id="3"), record(at_ms=1_000, infaas_id="1"), precise)
    assert [time for time, _ in found] == [0, 0.00025, 2]


def test_recording_counts_online_records_and_offline_queries() -> None:
    original = record(at_ms=1_000, infaas_id="1", infaas_mode="offline", infaas_latency_ms="60000")
    copies = [moved_to(topic, original, 5_000 + number) for number, topic in enumerate((OFFLINE, OFFLINE, LANES))]
    online = [record(at_ms=2_000, infaas_id="x"), record(at_ms=3_000, infaas_id="x")]
    for order in ([original, *copies, *online], [*copies, *online, original]):
        found = recorded(*order)
        assert found == [
            (0, QueryKind(task="digits", mode=Mode.OFFLINE, latency_ms=60_000)),
            (1, QueryKind(task="digits")),
            (2, QueryKind(task="digits")),
        ]


def test_recording_counts_moved_records_without_original_only_from_begin_of_log() -> None:
    original = record(at_ms=1_000, infaas_id="1", infaas_mode="offline")
    copy, other = moved_to(LANES, original, 5_000), record(OFFLINE, at_ms=6_000, infaas_id="2")
    assert len(recorded(copy, other)) == 2
    assert len(recorded(copy, other, since_ms=4_000)) == 1
    assert len(recorded(copy, other, original, since_ms=500)) == 2


def test_recording_keeps_only_queries_of_its_time() -> None:
    records = [record(at_ms=at_ms, infaas_id=str(at_ms)) for at_ms in (999, 1_000, 1_999, 2_000)]
    assert [time for time, _ in recorded(*records, since_ms=1_000, until_ms=2_000)] == [0, 0.999]


def test_recording_counts_unreadable_records() -> None:
    recording = Recording()
    for unreadable in (
        record(),
        record(infaas_id="1", infaas_min_accuracy="2"),
        record(infaas_id="1", infaas_latencyms="50"),
        record(INGRESS, infaas_id="1"),
        Record(ONLINE, 1, 7, 1_000, 0, b"k", b"", (("infaas-id", b"\xff"),)),
    ):
        recording.add(unreadable)
    assert (recording.unreadable, len(recording.trace())) == (5, 0)


async def test_follow_log_handles_first_interrupt_only() -> None:
    async def interrupted() -> list[Record]:
        os.kill(os.getpid(), signal.SIGINT)
        return await asyncio.get_running_loop().create_future()

    await follow_log(interrupted, Recording(), 60.0)
    assert not asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("trace.json",), "must end in .csv"),
        (("/no/such/folder/trace.csv",), "there is no folder /no/such/folder"),
        (("trace.csv", "--since", "soon"), "'soon' is not a time"),
        (("trace.csv", "--for", "soon"), "'soon' is not a duration"),
        (("trace.csv",), "no system runs"),
    ],
)
def test_record_refuses_invalid_arguments(shell: Shell, words: tuple[str, ...], message: str) -> None:
    shown = shell("record", *words)
    assert (shown.exit_code, message in shown.stderr) == (1, True), shown.stderr
