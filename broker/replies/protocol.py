"""Messages of reply streams: mutual authentication, then results and acknowledgements.

Sender and receiver prove with the token that each got the other's random number. The receiver proves first. A process
that listens at an address without its token learns nothing, and gets no result. Neither end ever sends the token.

A result, or a part of one, is a length, then headers and value in MessagePack; an acknowledgement is the number
received. If nobody waits for a part, its number is returned with the highest bit set, before the acknowledgement that
includes it. A frame without a body is a keepalive: it is answered by an acknowledgement, but is no result.

Hot: frames and acknowledgements, once per result at either end.
"""

import hmac
import secrets
from collections.abc import Iterator
from struct import Struct
from typing import Final

import msgspec

from schemas.headers import RawHeaders

MAGIC: Final = b"irs2"
NONCE_BYTES: Final = 16
PROOF_BYTES: Final = 32
HELLO_BYTES: Final = len(MAGIC) + NONCE_BYTES
CHALLENGE_BYTES: Final = NONCE_BYTES + PROOF_BYTES

_SENDER: Final = b"sender"
_RECEIVER: Final = b"receiver"

MAX_FRAME_BYTES: Final = 4 * 1024 * 1024
"""Bytes of the largest result that a stream carries."""

_LENGTH: Final = Struct("<I")
_COUNT: Final = Struct("<Q")
ACK_BYTES: Final = _COUNT.size
KEEPALIVE: Final = _LENGTH.pack(0)
_UNWANTED: Final = 1 << 63
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[list[tuple[str, bytes]], bytes]).decode

pack_ack: Final = _COUNT.pack


def pack_unwanted(number: int) -> bytes:
    """Return the message that nobody waits for the part with this number."""
    return _COUNT.pack(_UNWANTED | number)


def new_token() -> str:
    """Return a token that cannot be guessed."""
    return secrets.token_urlsafe(NONCE_BYTES)


def new_hello() -> bytes:
    """Return the first message of a sender."""
    return MAGIC + secrets.token_bytes(NONCE_BYTES)


def challenge(token: str, hello: bytes) -> bytes:
    """Return a receiver's answer to a hello: its own random number, and its proof.

    Raises:
        ValueError: the message is not the hello of a sender.
    """
    if not hello.startswith(MAGIC):
        raise ValueError("not a sender of results")
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + _proof(token, _RECEIVER, hello, nonce)


def sender_proof(token: str, hello: bytes, answer: bytes) -> bytes:
    """Return a sender's answer to a challenge: its own proof.

    Raises:
        ValueError: the receiver does not know the token.
    """
    nonce, proof = answer[:NONCE_BYTES], answer[NONCE_BYTES:]
    if not hmac.compare_digest(proof, _proof(token, _RECEIVER, hello, nonce)):
        raise ValueError("the receiver is not the expected one")
    return _proof(token, _SENDER, hello, nonce)


def check_sender(token: str, hello: bytes, answer: bytes, proof: bytes) -> None:
    """Check the proof of a sender after the challenge `answer`.

    Raises:
        ValueError: the sender does not know the token.
    """
    if not hmac.compare_digest(proof, _proof(token, _SENDER, hello, answer[:NONCE_BYTES])):
        raise ValueError("the sender does not know the token")


def _proof(token: str, side: bytes, hello: bytes, nonce: bytes) -> bytes:
    return hmac.digest(token.encode(), side + hello + nonce, "sha256")


def encode_frame(headers: RawHeaders, value: bytes) -> bytes:
    """Encode a result as a frame."""
    body = _encode((headers, value))
    return _LENGTH.pack(len(body)) + body


def take_frames(buffer: bytearray) -> Iterator[tuple[RawHeaders, bytes]]:
    """Remove all complete results from the buffer, and yield them.

    Raises:
        ValueError: the bytes are no results, or a result is too large.
    """
    at, end = 0, len(buffer)
    try:
        while end - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, at)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes")
            begin = at + _LENGTH.size
            if end - begin < length:
                return
            at = begin + length
            if length:
                yield _decode(buffer[begin:at])
    finally:
        del buffer[:at]


def take_ack(buffer: bytearray, unwanted: list[int]) -> int | None:
    """Remove all complete acknowledgements; return the last one, which includes the others; None if there is none yet.

    The numbers of parts that nobody waits for are added to `unwanted`.
    """
    last: int | None = None
    whole = len(buffer) // ACK_BYTES * ACK_BYTES
    for (count,) in _COUNT.iter_unpack(buffer[:whole]):
        if count & _UNWANTED:
            unwanted.append(count ^ _UNWANTED)
        else:
            last = count
    del buffer[:whole]
    return last
