"""Read and set single configuration values of topics, and keep all others, which somebody else may have set."""

# pyright: reportPrivateImportUsage=false
# confluent-kafka documents these names here, and its types do not mark them as exported.

import logging
from collections.abc import Iterable, Mapping

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from broker.librdkafka_admin import RefusedRequest, UnsupportedRequest, answered

log = logging.getLogger(__name__)


async def read_configs(admin: AdminClient, topics: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """Read the configuration of topics. A topic whose configuration may not be read is absent, and logged.

    Raises:
        OperatorError: Kafka does not answer.
    """
    found = dict[str, dict[str, str | None]]()
    for resource, future in admin.describe_configs([ConfigResource(ResourceType.TOPIC, t) for t in topics]).items():
        try:
            entries: dict[str, ConfigEntry] = await answered(future)
        except RefusedRequest as error:
            log.warning("the configuration of %s is unknown: %s", resource.name, error.reason)
        else:
            found[resource.name] = {name: entry.value for name, entry in entries.items()}
    return found


async def set_configs(admin: AdminClient, configs: Mapping[str, Mapping[str, str]]) -> None:
    """Set these configuration values by topic (KIP-339). Refusals of the broker are logged.

    Raises:
        OperatorError: Kafka does not answer.
    """
    resources = [
        ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[_set(*pair) for pair in values.items()])
        for topic, values in configs.items()
    ]
    for resource, future in admin.incremental_alter_configs(resources).items():
        try:
            await answered(future)
        except UnsupportedRequest:
            log.warning("this broker cannot change topic configurations: %d topics stay unchanged", len(configs))
            return
        except RefusedRequest as error:
            log.error("the configuration of %s was not corrected: %s", resource.name, error.reason)


def _set(name: str, value: str) -> ConfigEntry:
    return ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
