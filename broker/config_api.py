"""Read and set single configuration values of topics.

aiokafka's admin client can only replace the whole configuration, including values that others have set.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

log = logging.getLogger(__name__)

_SET: Final = 0
_TOPIC: Final = ConfigResourceType.TOPIC.value


class _AlterConfigsResponse(Response):
    API_KEY = 44  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    API_VERSION = 0  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    SCHEMA: ClassVar = Schema(
        ("throttle_time_ms", Int32),
        ("resources", Array(("error", Int16), ("message", String()), ("type", Int8), ("name", String()))),
    )


class _AlterConfigsStruct(RequestStruct):
    API_KEY: ClassVar = 44
    API_VERSION: ClassVar = 0
    RESPONSE_TYPE: ClassVar = _AlterConfigsResponse
    SCHEMA: ClassVar = Schema(
        (
            "resources",
            Array(
                ("type", Int8),
                ("name", String()),
                ("configs", Array(("key", String()), ("operation", Int8), ("value", String()))),
            ),
        ),
        ("validate_only", Boolean),
    )


class _AlterConfigs(Request[_AlterConfigsStruct]):
    """Request that sets single configuration values of topics (KIP-339)."""

    API_KEY: ClassVar = 44

    def __init__(self, configs: Mapping[str, Mapping[str, str]]) -> None:
        self._resources = [
            (_TOPIC, topic, [(key, _SET, value) for key, value in values.items()]) for topic, values in configs.items()
        ]

    def build(self, request_struct_class: type[_AlterConfigsStruct]) -> _AlterConfigsStruct:
        return request_struct_class(self._resources, False)


async def read_configs(admin: AIOKafkaAdminClient, topics: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """Read the configuration of topics. A topic whose configuration may not be read is absent, and logged."""
    # Read all values: the embedded broker closes the connection when single values are requested.
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    found = dict[str, dict[str, str | None]]()
    answers: list[Any] = await admin.describe_configs(resources)
    for answer in answers:
        for code, message, _type, topic, entries in answer.resources:
            if code:
                log.warning("the configuration of %s is unknown: %s", topic, message or for_code(code).description)
            else:
                found[topic] = {entry[0]: entry[1] for entry in entries}
    return found


async def set_configs(admin: AIOKafkaAdminClient, configs: Mapping[str, Mapping[str, str]]) -> None:
    """Set these configuration values by topic, and keep all others. Refusals of the broker are logged."""
    try:
        answer: Any = await admin._client.send(  # pyright: ignore[reportPrivateUsage] - there is no other way
            admin._client.get_random_node(),  # pyright: ignore[reportPrivateUsage]
            _AlterConfigs(configs),
        )
    except IncompatibleBrokerVersion:
        log.warning("this broker cannot change topic configurations: %d topics stay unchanged", len(configs))
        return
    for code, message, _type, topic in answer.resources:
        if code:
            log.error("the configuration of %s was not corrected: %s", topic, message or for_code(code).description)
