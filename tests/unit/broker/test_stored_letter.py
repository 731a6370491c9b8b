"""Tests of stored dead letters: filters, marks, and the headers and destination of a replay."""

import tracemalloc

import msgspec
import pytest

from broker.dead_letters.letter import OFFSET, PARTITION, REASON, SHORTENED, TENANT, TOPIC
from broker.dead_letters.resending import (
    destination,
    headers_to_sign,
    obstacle,
    reply_topic,
    resent_headers,
    tenant_to_sign_for,
)
from broker.dead_letters.stored_letter import (
    CLAIM_MS,
    Dispositions,
    LetterCursor,
    LetterFilter,
    LetterId,
    LetterState,
    Mark,
    StoredLetter,
    stored_letter,
)
from broker.kafka.types import Record
from schemas import headers as h
from schemas.topics import SHADOWS


def a_letter(topic: str = "infaas.tasks.digits", **headers: str) -> StoredLetter:
    ours = {TOPIC: topic, PARTITION: "0", OFFSET: "3", REASON: "The worker died", h.ATTEMPTS: "2"} | headers
    raw = tuple((name, value.encode()) for name, value in ours.items())
    return stored_letter(Record("dead", 0, 7, 1000, 1, b"k", b"v", raw))


def marked(marks: Dispositions, state: LetterState, by: str, written_ms: int, at_ms: int = 1000) -> None:
    mark = msgspec.json.encode(Mark(state=state, at_ms=at_ms, by=by))
    marks.read(Record("marks", 0, 0, written_ms, 1, b"0/7", mark, ()))


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (LetterFilter(), True),
        (LetterFilter(task="digits", reason="worker DIED", since_ms=1000, until_ms=1001), True),
        (LetterFilter(task="other"), False),
        (LetterFilter(reason="too large"), False),
        (LetterFilter(since_ms=1001), False),
        (LetterFilter(until_ms=1000), False),
        (LetterFilter(ids=(LetterId(0, 7),)), True),
        (LetterFilter(ids=(LetterId(1, 7),)), False),
    ],
)
def test_letter_filter_requires_all_conditions(wanted: LetterFilter, takes: bool) -> None:
    assert wanted.takes(a_letter()) is takes


def test_letter_filter_omits_finished_letters_by_default() -> None:
    done = msgspec.structs.replace(a_letter(), state=LetterState.DROPPED)
    assert not LetterFilter().takes(done)
    assert LetterFilter(done=True).takes(done)


@pytest.mark.parametrize("text", ["0/7", "7"])
def test_letter_id_parses_its_position(text: str) -> None:
    assert LetterId.parse(text) == (0, 7)


def test_marks_keep_first_claim_until_it_expires() -> None:
    marks, letter = Dispositions(), a_letter()
    marked(marks, LetterState.CLAIMED, "one", 2000)
    marked(marks, LetterState.CLAIMED, "two", 2000 + CLAIM_MS - 1)
    assert marks.is_claimed_by(letter, "one")
    marked(marks, LetterState.CLAIMED, "three", 2000 + CLAIM_MS)
    assert marks.is_claimed_by(letter, "three")
    marked(marks, LetterState.REPLAYED, "three", 2001 + CLAIM_MS)
    marked(marks, LetterState.CLAIMED, "four", 2000 + 9 * CLAIM_MS)
    marked(marks, LetterState.DROPPED, "four", 2001 + 9 * CLAIM_MS)
    assert marks.state(letter) is LetterState.REPLAYED


def test_marks_of_recreated_topic_are_ignored() -> None:
    marks = Dispositions()
    marked(marks, LetterState.DROPPED, "one", 2000, at_ms=999)
    marks.read(Record("marks", 0, 1, 2000, 1, b"what?", b"{", ()))
    assert marks.state(a_letter()) is LetterState.OPEN
    marked(marks, LetterState.CLAIMED, "two", 2001)
    assert marks.is_claimed_by(a_letter(), "two")


def test_marks_of_final_states_use_little_memory() -> None:
    count, marks = 20_000, Dispositions()
    records = [
        Record("marks", 0, at, 2000, 1, f"0/{at}".encode(), msgspec.json.encode(Mark(state=state, at_ms=1000)), ())
        for at in range(count) for state in (LetterState.CLAIMED, LetterState.REPLAYED)
    ]  # fmt: skip
    tracemalloc.start()
    try:
        for record in records:
            marks.read(record)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 20 * count
    assert marks.state(a_letter()) is LetterState.REPLAYED
    marks.read(Record("marks", 0, 0, 1, 1, b"0/7", b'{"state": "dropped", "at_ms": %d}' % 2**70, ()))
    assert marks.state(a_letter()) is LetterState.REPLAYED, "a time that cannot be says nothing"


def test_letter_cursor_continues_a_list() -> None:
    cursor = a_letter().cursor
    assert LetterCursor.parse(str(cursor)) == cursor
    assert not LetterFilter(after=cursor).takes(a_letter())
    assert LetterFilter(after=cursor._replace(id=LetterId(0, 6))).takes(a_letter())


def test_outlined_keeps_only_identifying_headers() -> None:
    whole = a_letter(**{h.ID: "q", h.REPLY_TO: "r" * 100_000, "my-own": "x" * 100_000})
    outline = whole.outlined()
    assert (outline.query, outline.task, outline.value_bytes) == ("q", "digits", whole.value_bytes)
    assert sum(len(value) for _, value in outline.letter.headers) < 1000


def test_destination_is_the_topic_of_the_task() -> None:
    of_worker = a_letter(topic="infaas.variants.mlp.onnx-fp32.cpu.offline", **{h.TASK: "digits"})
    assert destination(a_letter()) == "infaas.tasks.digits"
    assert destination(of_worker) == "infaas.tasks.digits.offline"
    assert reply_topic(of_worker) == "infaas.results.digits"
    assert reply_topic(a_letter(**{h.REPLY_TO: "mine"})) == "mine"


def test_resent_headers_keep_proved_tenant() -> None:
    topics = {"infaas.tasks.digits", "infaas.results.digits", "infaas.ingress.acme"}
    of_worker = {h.TASK: "digits", h.TENANT: "acme", h.SIGNATURE: "v1 acme.1 1 x"}
    passed_on = a_letter(topic="infaas.variants.mlp.onnx-fp32.cpu", **of_worker)
    seen = a_letter(**{TENANT: "acme", h.SIGNATURE: "v1 acme.1 1 x"})
    for letter in (passed_on, seen):
        assert tenant_to_sign_for(letter) == "acme"
        assert dict(resent_headers(letter))[h.TENANT] == b"acme"
        assert h.SIGNATURE not in dict(resent_headers(letter))
        assert obstacle(letter, topics, signs=True) == ""
        assert "by tenant acme" in obstacle(letter, topics)
    forged = a_letter(**{h.TENANT: "acme", h.SIGNATURE: "v1 acme.1 1 x"})
    assert tenant_to_sign_for(forged) == ""
    assert "not verified" in obstacle(forged, topics, signs=True)
    named = a_letter(topic="infaas.variants.mlp.onnx-fp32.cpu", **{h.TASK: "digits", h.TENANT: "acme"})
    assert (tenant_to_sign_for(named), obstacle(named, topics)) == ("", "")
    own = a_letter(topic="infaas.ingress.acme", **{h.TASK: "digits", TENANT: "acme", h.SIGNATURE: "any"})
    assert tenant_to_sign_for(own) == "", "its topic proves it"


def test_headers_to_sign_are_those_decoded_from_event() -> None:
    event = a_letter(**{TENANT: "acme", "ce_specversion": "1.0", "ce_id": "1", "ce_latencyms": "5"})
    assert dict(headers_to_sign(event)) == {
        h.ID: b"1", h.LATENCY_MS: b"5", h.TENANT: b"acme", h.ATTEMPTS: b"2"
    }  # fmt: skip
    broken = a_letter(**{TENANT: "acme", "ce_specversion": "0.3"})
    assert "not supported" in obstacle(broken, {"infaas.tasks.digits", "infaas.results.digits"}, signs=True)


def test_obstacle_names_reason_against_replay() -> None:
    topics = {"infaas.tasks.digits", "infaas.results.digits"}
    assert obstacle(a_letter(), topics) == ""
    assert "does not exist" in obstacle(a_letter(), set())
    assert "its reply topic" in obstacle(a_letter(**{h.REPLY_TO: "mine"}), topics)
    assert "was shortened" in obstacle(a_letter(**{SHORTENED: "9"}), topics)
    assert "not a valid topic" in obstacle(a_letter(topic="a b"), topics)
    assert "a copy" in obstacle(a_letter(**{h.REPLY_TO: SHADOWS}), topics | {SHADOWS})
    none_of_ours = stored_letter(Record("dead", 0, 1, 1, 1, None, b"v", ()))
    assert "not a valid topic" in obstacle(none_of_ours, topics)
    assert "not a dead letter of this system" in none_of_ours.letter.reason
