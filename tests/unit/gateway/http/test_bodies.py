"""Tests of compressed bodies: bounded decompression of any bytes, and the choice of an answer's encoding."""

import gzip
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.answers import HttpAnswer, packed
from gateway.http.bodies import Decompressor, Encoding, EncodingError, accepted_encoding, compress, encoding_of

MOST = 256 * 1024


def unpacked(encoding: Encoding, *parts: bytes) -> bytes:
    unpacking = Decompressor(encoding)
    found = b"".join(piece for part in parts for piece in unpacking.pieces(part))
    unpacking.check_end()
    return found


@given(st.binary(max_size=2000), st.sampled_from(["gzip", "deflate"]), st.integers(0, 2000))
def test_decompressor_restores_body_from_any_parts(body: bytes, encoding: Encoding, cut: int) -> None:
    there = compress(body, encoding)
    assert unpacked(encoding, there[:cut], there[cut:]) == body


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
def test_decompressor_accepts_or_refuses_any_bytes(body: bytes, encoding: Encoding) -> None:
    with suppress(EncodingError):
        unpacked(encoding, body)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_decompressor_yields_bounded_pieces(encoding: Encoding) -> None:
    body = bytes(5 * MOST + 17)
    there = compress(body, encoding)
    assert len(there) < MOST / 10
    pieces = list(Decompressor(encoding).pieces(there))
    assert max(map(len, pieces)) == MOST
    assert b"".join(pieces) == body
    assert unpacked(encoding, there) == body


def test_decompressor_accepts_gzip_members_and_bare_deflate() -> None:
    assert unpacked("gzip", gzip.compress(b"one, ", mtime=0) + gzip.compress(b"two")) == b"one, two"
    packing = zlib.compressobj(wbits=-15)
    assert unpacked("deflate", packing.compress(b"bare") + packing.flush()) == b"bare"


@pytest.mark.parametrize(
    ("encoding", "body", "message"),
    [
        ("gzip", b"{}", "no gzip"),
        ("gzip", gzip.compress(b"whole", mtime=0)[:-1], "ends too early"),
        ("gzip", gzip.compress(b"whole", mtime=0)[:-3] + b"abc", "no gzip"),
        ("gzip", gzip.compress(b"whole", mtime=0) + b"rest", "no gzip"),
        ("deflate", zlib.compress(b"whole") + b"rest", "after the end"),
        ("deflate", b"{}", "deflate"),
    ],
)
def test_decompressor_explains_malformed_body(encoding: Encoding, body: bytes, message: str) -> None:
    with pytest.raises(EncodingError, match=message):
        unpacked(encoding, body)


def test_encoding_of_ignores_case() -> None:
    assert [encoding_of(name) for name in ("gzip", "GZIP", "x-gzip", " deflate ", "identity", "")] == [
        "gzip", "gzip", "gzip", "deflate", None, None,
    ]  # fmt: skip
    for name in ("br", "gzip, gzip", "zstd", "compress"):
        with pytest.raises(LookupError):
            encoding_of(name)


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("gzip;q=0, deflate;q=0.0", None),
        ("*", "gzip"),
        ("*;q=0", None),
        ("gzip;q=0, *;q=0.1", "deflate"),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, GZIP;Q=0.7", "gzip"),
        ("x-gzip", "gzip"),
        ("br", None),
        ("", None),
        ("gzip;q=nan", None),
        ("gzip;q=7, ;;, =", None),
    ],
)
def test_accepted_encoding_follows_client_preference(header: str, encoding: str | None) -> None:
    assert accepted_encoding(header) == encoding


@given(st.text())
def test_accepted_encoding_reads_any_header(header: str) -> None:
    assert accepted_encoding(header) in ("gzip", "deflate", None)


@pytest.mark.parametrize("size", [5_000, 500_000])
async def test_packed_compresses_long_answer_if_accepted(size: int) -> None:
    answer = HttpAnswer(200, {"Content-Type": "application/json"}, b"[1, 2]" * (size // 6))
    found = await packed(answer, "gzip, deflate")
    assert found.headers == answer.headers | {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    assert gzip.decompress(found.body) == answer.body
    assert await packed(answer, "identity") is answer


async def test_packed_keeps_short_or_incompressible_answer() -> None:
    noise = zlib.compress(bytes(range(256)) * 4, 0) + bytes(range(256)) * 16
    for body in (b"[1, 2]", compress(b"".join(str(number).encode() for number in range(20_000)), "gzip"), noise[:4000]):
        answer = HttpAnswer(200, {}, body)
        assert await packed(answer, "gzip") is answer
