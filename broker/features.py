"""What a broker can do: asked of it once by whoever needs to know, and known by the id of its cluster.

Every Kafka can do all of it. The embedded broker, for trying things out, can do none, and whoever runs on it does
without: these are all the special cases there are.
"""

from typing import Final

import msgspec

from broker.client import open_admin
from broker.settings import KafkaSettings

EMBEDDED_CLUSTER: Final = "infaas-embedded"
"""Cluster id that we give the embedded broker."""


class BrokerFeatures(msgspec.Struct, frozen=True):
    """What may be asked of a broker."""

    idempotence: bool = True
    """It gives out producer ids, so that a record sent again is not there twice."""
    groups: bool = True
    """Members of a group share partitions, and the broker notices when one dies."""
    growth: bool = True
    """Topics can get more partitions."""


_KAFKA: Final = BrokerFeatures()
_EMBEDDED: Final = BrokerFeatures(idempotence=False, groups=False, growth=False)


async def broker_features(settings: KafkaSettings) -> BrokerFeatures:
    """What this broker can do.

    Raises:
        OperatorError: Kafka cannot be reached.
    """
    async with open_admin(settings) as admin:
        cluster = await admin.describe_cluster()
    return _EMBEDDED if cluster.get("cluster_id") == EMBEDDED_CLUSTER else _KAFKA
