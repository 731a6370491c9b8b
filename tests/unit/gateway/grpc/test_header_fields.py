"""Tests of header blocks: decoded as by a plain decoder whatever a table holds, and encoded for any decoder."""

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from gateway.grpc.header_fields import HeaderBlockDecoder, InvalidHeaders, encode_fields

REQUEST = [(":method", "POST"), (":path", "/s/m")]
names = st.sampled_from(["a", "infaas-id", "x" * 60, "authorization"])
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=200)
fields = st.lists(st.tuples(names, values), max_size=5)


@given(st.lists(st.tuples(fields, st.integers(1, 3), st.booleans()), max_size=10), st.sampled_from([0, 100, 4096]))
def test_cached_blocks_equal_decoded_ones(calls: list[tuple[list[tuple[str, str]], int, bool]], table: int) -> None:
    encoder, decoder = Encoder(), HeaderBlockDecoder(64 * 1024)
    encoder.header_table_size = table
    for one, times, huffman in calls:
        for _ in range(times):
            assert decoder.decode(encoder.encode([*REQUEST, *one], huffman=huffman)) == dict([*REQUEST, *one])


def test_block_of_references_is_decoded_once() -> None:
    encoder, decoder = Encoder(), HeaderBlockDecoder(64 * 1024)
    decoder.decode(encoder.encode([*REQUEST, ("a", "1")]))
    known = decoder.decode(encoder.encode([*REQUEST, ("a", "1")]))
    assert decoder.decode(encoder.encode([*REQUEST, ("a", "1")])) is known
    decoder.decode(encoder.encode([*REQUEST, ("a", "2")]))  # the references have other numbers now
    found = decoder.decode(encoder.encode([*REQUEST, ("a", "1")]))
    assert found == known
    assert found is not known


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.binary(max_size=20_000)), max_size=4))
def test_encoded_fields_are_decoded_by_any_decoder(given_fields: list[tuple[bytes, bytes]]) -> None:
    found = Decoder(max_header_list_size=2**20).decode(encode_fields(given_fields), raw=True)
    assert [tuple(field) for field in found] == given_fields


def test_binary_fields_are_dropped_and_last_of_a_name_counts() -> None:
    block = Encoder().encode([*REQUEST, ("a-bin", "x"), ("b", "1"), ("b", "2")])
    assert HeaderBlockDecoder(1024).decode(block) == {**dict(REQUEST), "b": "2"}


@pytest.mark.parametrize(
    "block", [b"\xff\xff\xff\xff\xff\xff", b"\xbf", b"\x00\x05a", Encoder().encode([("a", "x" * 2000)])]
)
def test_undecodable_block_is_refused(block: bytes) -> None:
    with pytest.raises(InvalidHeaders):
        HeaderBlockDecoder(1024).decode(block)


@pytest.mark.parametrize("wrong", [[("a", "1\r\n")], [("a", "\0")]])
def test_fields_with_line_breaks_are_no_request(wrong: list[tuple[str, str]]) -> None:
    assert HeaderBlockDecoder(1024).decode(Encoder().encode([*REQUEST, *wrong])) is None
    assert HeaderBlockDecoder(1024).decode(Encoder().encode(REQUEST[:1])) is None
