"""Reachability of the brokers, and their features.

Clients retry for as long as Kafka is unreachable, and report it only in logs. `ping` and the health probes of a service
check on demand instead; nothing is sent between checks. A check opens a connection of its own and requires an answer of
a broker: a broker that hangs still accepts connections.

Features are derived from the id of the cluster. Apache Kafka has all of them. The embedded broker, which is for trials,
has none. These are the only special cases for the embedded broker; code that needs a feature checks for it once.
"""

import asyncio
from typing import Final

import msgspec
from aiokafka.errors import KafkaError

from broker.kafka.client import check_connection, close_client, new_client, open_admin, start_client
from broker.kafka.settings import KafkaSettings

EMBEDDED_CLUSTER: Final = "infaas-embedded"
"""Cluster id of the embedded broker."""
_TIMEOUT_S: Final = 1.5
"""Shorter than the timeout of a health probe."""
_FRESH_S: Final = 1.0


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


class KafkaReachability:
    """Reachability of Kafka from this process; a result is valid for a second."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._addresses = [address.strip() for address in settings.bootstrap.split(",")]
        self._settings = settings
        self._problem = ""
        self._fresh_until = 0.0
        self._asking = asyncio.Lock()

    async def problem(self) -> str:
        """Ask Kafka; return why it cannot be used now, or an empty string."""
        clock = asyncio.get_running_loop().time
        async with self._asking:
            if clock() >= self._fresh_until:
                self._problem = await self._ask()
                self._fresh_until = clock() + _FRESH_S
        return self._problem

    async def _ask(self) -> str:
        """Ask all configured brokers at once; one answer is enough."""
        problems: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(self._ask_broker(address)) for address in self._addresses]
            for answer in asyncio.as_completed(asking):
                problems.append(await answer)
                if not problems[-1]:
                    for task in asking:
                        task.cancel()
                    return ""
        return "; ".join(problems)

    async def _ask_broker(self, address: str) -> str:
        try:
            await check_connection(self._settings, address, "infaas-probe", _TIMEOUT_S)
        except TimeoutError:
            return f"Kafka at {address} does not answer"
        except (KafkaError, OSError) as error:
            return f"Kafka at {address} does not answer: {error}"
        return ""


async def ping(settings: KafkaSettings) -> int:
    """Check that Kafka answers; return the number of brokers in the cluster.

    Raises:
        OperatorError: Kafka cannot be reached.
    """
    return await start_client(settings, _count_brokers(settings))


async def _count_brokers(settings: KafkaSettings) -> int:
    """Ask one address after the other, each with its share of the timeout: one of several brokers may hang."""
    addresses = settings.bootstrap.split(",")
    share_ms = settings.request_timeout_ms // len(addresses)
    error: KafkaError | None = None
    for address in addresses:
        one = settings.model_copy(update={"bootstrap": address.strip(), "request_timeout_ms": share_ms})
        client = new_client(one, "infaas-check")
        try:
            await client.bootstrap()
            return len(client.cluster.brokers())
        except KafkaError as failure:
            error = failure
        finally:
            await close_client(client)
    raise error or KafkaError("no address")
