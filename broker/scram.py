"""Kafka's SCRAM credentials: the names and salted passwords by which clients log in (KIP-554).

librdkafka salts them here, so that Kafka is never told the password.
"""

# pyright: reportPrivateImportUsage=false
# confluent-kafka documents these names here, and its types do not mark them as exported.

from typing import Final

from confluent_kafka.admin import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from broker.librdkafka_admin import RefusedRequest, UnsupportedRequest, answered, open_librdkafka_admin
from broker.settings import KafkaSettings
from schemas.errors import OperatorError

_MECHANISM: Final = ScramMechanism.SCRAM_SHA_512
_ITERATIONS: Final = 8192
_NOT_THERE: Final = 91


async def has_password(settings: KafkaSettings, user: str) -> bool:
    """Whether a user logs in by SCRAM, whoever gave it the password; False, too, where Kafka keeps no such credentials.

    Raises:
        OperatorError: Kafka does not tell us, or cannot be reached.
    """
    async with open_librdkafka_admin(settings) as admin:
        futures = admin.describe_user_scram_credentials([user])
        assert isinstance(futures, dict), "of users that are named there is a future each"
        try:
            return bool((await answered(futures[user])).scram_credential_infos)
        except UnsupportedRequest:
            return False
        except RefusedRequest as error:
            if error.code == _NOT_THERE:
                return False
            raise OperatorError(f"Kafka does not tell who has a password: {error.reason}") from error


async def set_password(settings: KafkaSettings, user: str, password: str) -> None:
    """Let a user log in by SCRAM-SHA-512 with this password, and with no other.

    Raises:
        OperatorError: Kafka keeps no such credentials, does not let us change them, or cannot be reached.
    """
    info = ScramCredentialInfo(_MECHANISM, _ITERATIONS)
    try:
        await _alter(settings, UserScramCredentialUpsertion(user, info, password.encode()))
    except UnsupportedRequest as error:
        raise OperatorError("this Kafka keeps no SCRAM credentials: leave the password to it") from error


async def forget_password(settings: KafkaSettings, user: str) -> None:
    """Let a user log in by SCRAM-SHA-512 no longer; who could not is no error, nor is a Kafka where nobody can.

    Raises:
        OperatorError: Kafka does not let us change its credentials, or cannot be reached.
    """
    try:
        await _alter(settings, UserScramCredentialDeletion(user, _MECHANISM))
    except UnsupportedRequest:
        return


async def _alter(settings: KafkaSettings, alteration: UserScramCredentialAlteration) -> None:
    async with open_librdkafka_admin(settings) as admin:
        try:
            await answered(admin.alter_user_scram_credentials([alteration])[alteration.user])
        except RefusedRequest as error:
            if error.code != _NOT_THERE:
                raise OperatorError(f"Kafka does not change the credentials: {error.reason}") from error
