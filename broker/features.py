"""The features of a broker, told by the id of its cluster, for which whoever needs them asks it once.

Every Kafka has all of them. The embedded broker, for trying things out, has none, and whoever runs on it does without:
these are all the special cases there are.
"""

from typing import Final

import msgspec

from broker.client import open_admin
from broker.settings import KafkaSettings

EMBEDDED_CLUSTER: Final = "infaas-embedded"
"""Cluster id that we give the embedded broker."""


class BrokerFeatures(msgspec.Struct, frozen=True):
    """What a broker can do beyond reading and writing records."""

    idempotence: bool = True
    """Whether it gives out producer ids, so that a record sent again is not there twice."""
    groups: bool = True
    """Whether members of a group share partitions, and the broker notices when one dies."""
    growth: bool = True
    """Whether topics can get more partitions."""
    trims: bool = True
    """Whether it deletes records before an offset, and says how many bytes there are."""
    wakes: bool = True
    """Whether a fetch that waits is answered as soon as there is a record."""

    transactions: bool = True
    """Whether records and offsets can be written together, or not at all."""


_KAFKA: Final = BrokerFeatures()
_EMBEDDED: Final = BrokerFeatures(
    idempotence=False, groups=False, growth=False, trims=False, wakes=False, transactions=False
)


async def broker_features(settings: KafkaSettings) -> BrokerFeatures:
    """Ask a broker what it can do.

    Raises:
        OperatorError: Kafka cannot be reached.
    """
    async with open_admin(settings) as admin:
        cluster = await admin.describe_cluster()
    return _EMBEDDED if cluster.get("cluster_id") == EMBEDDED_CLUSTER else _KAFKA
