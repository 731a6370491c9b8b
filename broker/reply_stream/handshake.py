"""Mutual authentication of sender and receiver: each proves with the token that it got the other's random number.

The receiver proves first. A process that listens at an address without its token learns nothing, and gets no result.
Neither end ever sends the token.
"""

import hmac
import secrets
from typing import Final

MAGIC: Final = b"irs2"
NONCE_BYTES: Final = 16
PROOF_BYTES: Final = 32
HELLO_BYTES: Final = len(MAGIC) + NONCE_BYTES
CHALLENGE_BYTES: Final = NONCE_BYTES + PROOF_BYTES

_SENDER: Final = b"sender"
_RECEIVER: Final = b"receiver"


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
