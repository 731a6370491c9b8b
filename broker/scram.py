"""SCRAM credentials in Kafka: names and salted passwords of users (KIP-554).

librdkafka salts passwords in this process, so Kafka never receives a password.
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
    """Return true if a user has SCRAM credentials, also if others have set them.

    False, too, if Kafka does not store SCRAM credentials.

    Raises:
        OperatorError: Kafka refuses the request, or cannot be reached.
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
            raise OperatorError(f"cannot read SCRAM credentials: {error.reason}") from error


async def set_password(settings: KafkaSettings, user: str, password: str) -> None:
    """Set the SCRAM-SHA-512 password of a user, in place of any earlier one.

    Raises:
        OperatorError: Kafka stores no SCRAM credentials, does not let us change them, or cannot be reached.
    """
    info = ScramCredentialInfo(_MECHANISM, _ITERATIONS)
    try:
        await _alter(settings, UserScramCredentialUpsertion(user, info, password.encode()))
    except UnsupportedRequest as error:
        raise OperatorError("this Kafka stores no SCRAM credentials: set passwords outside of INFAAS") from error


async def forget_password(settings: KafkaSettings, user: str) -> None:
    """Delete the SCRAM-SHA-512 password of a user.

    It is no error if the user has none, or if Kafka stores no SCRAM credentials.

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
                raise OperatorError(f"Kafka did not change the credentials: {error.reason}") from error
