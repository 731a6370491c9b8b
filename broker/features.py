"""Features of a broker, derived from the id of its cluster.

Apache Kafka has all of them. The embedded broker, which is for trials, has none. These are the only special cases for
the embedded broker; code that needs a feature checks for it once.
"""

from typing import Final

import msgspec

from broker.client import open_admin
from broker.settings import KafkaSettings

EMBEDDED_CLUSTER: Final = "infaas-embedded"
"""Cluster id of the embedded broker."""


class BrokerFeatures(msgspec.Struct, frozen=True):
    """Features of a broker beyond reading and writing records."""

    idempotence: bool = True
    """True if the broker assigns producer ids, so that a record sent twice is written once."""
    groups: bool = True
    """True if members of a group share partitions, and the broker detects dead members."""
    growth: bool = True
    """True if partitions can be added to a topic."""
    trims: bool = True
    """True if the broker deletes records before an offset and reports the size of logs."""
    wakes: bool = True
    """True if the broker answers a waiting fetch as soon as a record arrives."""

    transactions: bool = True
    """True if records and offsets can be written in one transaction."""


_KAFKA: Final = BrokerFeatures()
_EMBEDDED: Final = BrokerFeatures(
    idempotence=False, groups=False, growth=False, trims=False, wakes=False, transactions=False
)


async def broker_features(settings: KafkaSettings) -> BrokerFeatures:
    """Return the features of the broker.

    Raises:
        OperatorError: Kafka cannot be reached.
    """
    async with open_admin(settings) as admin:
        cluster = await admin.describe_cluster()
    return _EMBEDDED if cluster.get("cluster_id") == EMBEDDED_CLUSTER else _KAFKA
