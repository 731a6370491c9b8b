"""Tests of reply streams: addresses, settings, handshake, frames and back-off, for any input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.kafka.settings import ReplyStreamSettings
from broker.replies.address import MAX_LENGTH, StreamAddress, parse_address
from broker.replies.protocol import (
    CHALLENGE_BYTES,
    HELLO_BYTES,
    MAX_FRAME_BYTES,
    PROOF_BYTES,
    challenge,
    check_sender,
    encode_frame,
    new_hello,
    new_token,
    pack_ack,
    pack_unwanted,
    sender_proof,
    take_ack,
    take_frames,
)
from schemas.errors import OperatorError
from schemas.headers import RawHeaders

RESULTS = st.lists(st.tuples(st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=9))), st.binary(max_size=99)))


@given(st.ip_addresses(), st.integers(1, 65_535))
def test_parse_address_restores_any_address(host: object, port: int) -> None:
    address = StreamAddress(str(host), port, new_token())
    assert parse_address(address.header()) == (address if "%" not in str(host) else None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:80",
        "127.0.0.1:80 short",
        "127.0.0.1:0 0123456789abcdef",
        "127.0.0.1:65536 0123456789abcdef",
        "127.0.0.1:-1 0123456789abcdef",
        "127.0.0.1:\u0664 0123456789abcdef",
        "127.0.0.1:999999999999 0123456789abcdef",
        "localhost:80 0123456789abcdef",
        "[fe80::1%eth0]:80 0123456789abcdef",
        "127.0.0.1:80 " + "a" * MAX_LENGTH,
    ],
)
def test_parse_address_refuses_malformed_text(text: str) -> None:
    assert parse_address(text) is None


@given(st.text(max_size=MAX_LENGTH + 1))
def test_parse_address_accepts_or_refuses_any_text(text: str) -> None:
    address = parse_address(text)
    assert address is None or parse_address(address.header()) == address


def test_address_hides_its_token_in_text() -> None:
    address = StreamAddress("127.0.0.1", 80, "a-very-secret-token")
    assert "secret" not in f"{address} {address!r}"


def test_address_is_limited_to_allowed_networks() -> None:
    here, there = StreamAddress("127.0.0.1", 1, "t"), StreamAddress("10.1.2.3", 1, "t")
    mapped = StreamAddress("::ffff:10.1.2.3", 1, "t")
    assert here.is_within(ReplyStreamSettings().allowed)
    assert StreamAddress("::1", 1, "t").is_within(ReplyStreamSettings().allowed)
    assert not there.is_within(ReplyStreamSettings().allowed)
    assert not mapped.is_within(ReplyStreamSettings().allowed)
    assert there.is_within(ReplyStreamSettings(networks="192.168.0.0/16, 10.0.0.0/8").allowed)
    assert not here.is_within(ReplyStreamSettings(networks="").allowed)


@pytest.mark.parametrize(
    ("name", "value"),
    [("networks", "10.0.0.0/99"), ("host", "gateway.example"), ("advertise", "me"), ("port", 70_000), ("host", "::")],
)
def test_settings_name_variable_of_invalid_value(name: str, value: object) -> None:
    with pytest.raises(OperatorError, match=f"INFAAS_REPLY_STREAM_{name.upper()}"):
        ReplyStreamSettings(**{name: value})  # pyright: ignore[reportArgumentType]


def test_handshake_succeeds_with_same_token() -> None:
    token, hello = new_token(), new_hello()
    answer = challenge(token, hello)
    proof = sender_proof(token, hello, answer)
    check_sender(token, hello, answer, proof)
    assert (len(hello), len(answer), len(proof)) == (HELLO_BYTES, CHALLENGE_BYTES, PROOF_BYTES)


def test_handshake_fails_without_token() -> None:
    token, hello = new_token(), new_hello()
    answer = challenge(token, hello)
    with pytest.raises(ValueError, match="not the expected one"):
        sender_proof(token, hello, challenge(new_token(), hello))
    with pytest.raises(ValueError, match="does not know the token"):
        check_sender(token, hello, answer, bytes(PROOF_BYTES))
    with pytest.raises(ValueError, match="does not know the token"):  # the receiver's own proof, sent back to it
        check_sender(token, hello, answer, answer[-PROOF_BYTES:])
    with pytest.raises(ValueError, match="not a sender"):
        challenge(token, b"GET / HTTP/1.1\r\nHost:")


def test_handshake_proof_is_valid_for_one_connection() -> None:
    token, hello = new_token(), new_hello()
    answer = challenge(token, hello)
    proof = sender_proof(token, hello, answer)
    for other_hello, other_answer in ((new_hello(), answer), (hello, challenge(token, hello))):
        with pytest.raises(ValueError, match="does not know the token"):
            check_sender(token, other_hello, other_answer, proof)


@given(RESULTS, st.lists(st.integers(1, 40)))
def test_take_frames_restores_results_from_any_parts(results: list[tuple[RawHeaders, bytes]], cuts: list[int]) -> None:
    sent = b"".join(encode_frame(headers, value) for headers, value in results)
    buffer, found = bytearray(), list[tuple[RawHeaders, bytes]]()
    for size in [*cuts, len(sent)]:
        buffer += sent[:size]
        sent = sent[size:]
        found += take_frames(buffer)
    assert found == results
    assert not buffer


@pytest.mark.parametrize("junk", [b"\xff\xff\xff\xff", b"\x01\x00\x00\x00x", b"\x03\x00\x00\x00\x92\x90\xa0"])
def test_take_frames_raises_on_malformed_frame(junk: bytes) -> None:
    good = encode_frame([("infaas-id", b"1")], b"v")
    taken = take_frames(bytearray(good + junk))
    assert next(taken) == ([("infaas-id", b"1")], b"v")
    with pytest.raises(ValueError, match=r"frame|MessagePack|truncated|Expected|[Ii]nput"):
        next(taken)


def test_take_frames_refuses_large_frame_by_its_length() -> None:
    with pytest.raises(ValueError, match="a frame of"):
        list(take_frames(bytearray((MAX_FRAME_BYTES + 1).to_bytes(4, "little"))))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2**63 - 1))), st.integers(0, 7))
def test_take_ack_returns_last_complete_one(messages: list[tuple[bool, int]], rest: int) -> None:
    packed = [pack_unwanted(number) if refused else pack_ack(number) for refused, number in messages]
    buffer, unwanted = bytearray(b"".join(packed) + b"\1" * rest), list[int]()
    counts = [number for refused, number in messages if not refused]
    assert take_ack(buffer, unwanted) == (counts[-1] if counts else None)
    assert unwanted == [number for refused, number in messages if refused]
    assert buffer == b"\1" * rest
