"""Check on demand whether Kafka answers; nothing is sent between checks.

Clients retry for as long as Kafka is unreachable, and report it only in logs. Health probes of a service use this check
instead. It opens a connection of its own and requires an answer of a broker: a broker that hangs still accepts
connections.
"""

import asyncio
from typing import Any, Final

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError

from broker.client import client_options
from broker.settings import KafkaSettings

_TIMEOUT_S: Final = 1.5
"""Shorter than the timeout of a health probe."""
_FRESH_S: Final = 1.0


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
        options: dict[str, Any] = {**client_options(self._settings, "infaas-probe")}
        del options["bootstrap_servers"], options["retry_backoff_ms"]
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                connection = await create_conn(host, int(port), **options)
        except TimeoutError:
            return f"Kafka at {address} does not answer"
        except (KafkaError, OSError) as error:
            return f"Kafka at {address} does not answer: {error}"
        connection.close()
        return ""
