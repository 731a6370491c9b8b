"""Kafka's SCRAM credentials: the names and salted passwords by which clients log in (KIP-554).

Salted here, so that Kafka is never told the password.
"""

import hashlib
import secrets
from contextlib import suppress
from typing import Any, ClassVar, Final

from aiokafka.errors import for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactBytes, CompactString, Int8, Int16, Int32, Schema, TaggedFields

from broker.acls import NoSuchRequest, send_admin
from broker.client import open_admin
from broker.settings import KafkaSettings
from schemas.errors import OperatorError

_SHA_512: Final = 2
_ITERATIONS: Final = 8192
_SALT_BYTES: Final = 32
_NOT_THERE: Final = 91
_NO_TAGS: Final[dict[int, bytes]] = {}


class _DescribeScramResponse(Response):
    API_KEY = 50  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    API_VERSION = 0  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    SCHEMA: ClassVar = Schema(
        ("throttle_time_ms", Int32),
        ("error", Int16),
        ("message", CompactString()),
        (
            "results",
            CompactArray(
                ("user", CompactString()),
                ("error", Int16),
                ("message", CompactString()),
                ("credentials", CompactArray(("mechanism", Int8), ("iterations", Int32), ("tags", TaggedFields))),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _DescribeScramStruct(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY: ClassVar = 50
    API_VERSION: ClassVar = 0
    RESPONSE_TYPE: ClassVar = _DescribeScramResponse
    SCHEMA: ClassVar = Schema(
        ("users", CompactArray(("name", CompactString()), ("tags", TaggedFields))), ("tags", TaggedFields)
    )


class _DescribeScram(Request[_DescribeScramStruct]):
    """Request for the credentials that a user has, of every mechanism."""

    API_KEY: ClassVar = 50

    def __init__(self, user: str) -> None:
        self._user = user

    def build(self, request_struct_class: type[_DescribeScramStruct]) -> _DescribeScramStruct:
        return request_struct_class([(self._user, _NO_TAGS)], _NO_TAGS)


class _AlterScramResponse(Response):
    API_KEY = 51  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    API_VERSION = 0  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    SCHEMA: ClassVar = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            CompactArray(
                ("user", CompactString()), ("error", Int16), ("message", CompactString()), ("tags", TaggedFields)
            ),
        ),
        ("tags", TaggedFields),
    )


class _AlterScramStruct(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY: ClassVar = 51
    API_VERSION: ClassVar = 0
    RESPONSE_TYPE: ClassVar = _AlterScramResponse
    SCHEMA: ClassVar = Schema(
        ("deletions", CompactArray(("name", CompactString()), ("mechanism", Int8), ("tags", TaggedFields))),
        (
            "upsertions",
            CompactArray(
                ("name", CompactString()),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _AlterScram(Request[_AlterScramStruct]):
    """Request to set or delete credentials of SCRAM-SHA-512."""

    API_KEY: ClassVar = 51

    def __init__(self, user: str, password: str | None) -> None:
        self._deletions = [] if password else [(user, _SHA_512, _NO_TAGS)]
        salt = secrets.token_bytes(_SALT_BYTES)
        self._upsertions = [(user, _SHA_512, _ITERATIONS, salt, _salted(password, salt), _NO_TAGS)] if password else []

    def build(self, request_struct_class: type[_AlterScramStruct]) -> _AlterScramStruct:
        return request_struct_class(self._deletions, self._upsertions, _NO_TAGS)


async def has_password(settings: KafkaSettings, user: str) -> bool:
    """Whether a user logs in by SCRAM, whoever gave it the password; False, too, where Kafka keeps no such credentials.

    Raises:
        OperatorError: Kafka does not tell us, or cannot be reached.
    """
    try:
        async with open_admin(settings) as admin:
            answer: Any = await send_admin(admin, _DescribeScram(user))
    except NoSuchRequest:
        return False
    results: list[Any] = answer.results or []
    codes = {answer.error, *(code for _user, code, *_ in results)} - {0, _NOT_THERE}
    if codes:
        raise OperatorError(f"Kafka does not tell who has a password: {for_code(codes.pop()).description}")
    return any(credentials for _user, _code, _message, credentials, _tags in results)


async def set_password(settings: KafkaSettings, user: str, password: str) -> None:
    """Let a user log in by SCRAM-SHA-512 with this password, and with no other.

    Raises:
        OperatorError: Kafka keeps no such credentials, does not let us change them, or cannot be reached.
    """
    try:
        await _alter(settings, _AlterScram(user, password))
    except NoSuchRequest as error:
        raise OperatorError("this Kafka keeps no SCRAM credentials: leave the password to it") from error


async def forget_password(settings: KafkaSettings, user: str) -> None:
    """Let a user log in by SCRAM-SHA-512 no longer; who could not is no error, nor is a Kafka where nobody can.

    Raises:
        OperatorError: Kafka does not let us change its credentials, or cannot be reached.
    """
    with suppress(NoSuchRequest):
        await _alter(settings, _AlterScram(user, None))


async def _alter(settings: KafkaSettings, request: _AlterScram) -> None:
    async with open_admin(settings) as admin:
        answer: Any = await send_admin(admin, request)
    for _user, code, message, _tags in answer.results:
        if code not in (0, _NOT_THERE):
            raise OperatorError(f"Kafka does not change the credentials: {message or for_code(code).description}")


def _salted(password: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
