"""Process of a broker that this program runs, and its successors at the same address."""

import asyncio
import signal
from abc import ABC, abstractmethod
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self

from aiokafka.errors import KafkaError

from broker.kafka.client import open_admin
from broker.kafka.settings import KafkaSettings
from process.subprocesses import log_tail, running
from schemas.errors import OperatorError

_TRY_INTERVAL_S: Final = 0.05


class BrokerProcess(ABC):
    """Broker on 127.0.0.1; an async context manager that runs it. It may be started again if it ends.

    Entering raises OperatorError if the broker does not come up.
    """

    def __init__(
        self,
        log: Path,
        ready_s: float,
        *,
        variables: Mapping[str, str] | None = None,
        stop: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Take the whole environment of the process from `variables`, if given; `stop` is the signal that ends it."""
        self.log_file = log
        self._ready_s = ready_s
        self._variables = variables
        self._stop = stop
        self._command: Sequence[str | Path] = ()
        self._process: Process | None = None
        self._closing = AsyncExitStack()
        self.bootstrap = ""
        """Address as `host:port`; set when the context is entered."""

    @property
    def settings(self) -> KafkaSettings:
        """Settings that reach this broker."""
        return KafkaSettings(bootstrap=self.bootstrap)

    @property
    def pid(self) -> int:
        """Id of the current process; 0 before the first."""
        return 0 if self._process is None else self._process.pid

    async def __aenter__(self) -> Self:
        self._command = await self._prepare()
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    @abstractmethod
    async def _prepare(self) -> Sequence[str | Path]:
        """Set `bootstrap`, and create all that the process needs; return its command.

        Raises:
            OperatorError: the port is taken, or something is missing.
        """

    async def start(self) -> None:
        """Start the process, again if it has ended, and wait until it answers.

        Raises:
            OperatorError: the process does not come up.
        """
        await self.stop()
        async with AsyncExitStack() as stack:
            process = await stack.enter_async_context(
                running(self._command, self.log_file, env=self._variables, stop=self._stop)
            )
            self._process = process
            await wait_until_ready(process, self.settings, self.log_file, self._ready_s)
            self._closing = stack.pop_all()

    async def stop(self) -> None:
        """Stop the process, if it runs."""
        await self._closing.aclose()

    async def ended(self) -> int:
        """Wait until the process that was started has ended; return its exit code."""
        assert self._process is not None, "start it first"
        return await self._process.wait()


async def wait_until_ready(process: Process, settings: KafkaSettings, log: Path, timeout_s: float) -> None:
    """Wait until the broker answers a metadata request.

    Raises:
        OperatorError: the broker exited, or did not answer in time; the message quotes the end of its log.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while not await _answers(settings):
                if process.returncode is not None:
                    raise OperatorError(
                        f"the broker exited with code {process.returncode}; {log} ends: {log_tail(log)}"
                    )
                await asyncio.sleep(_TRY_INTERVAL_S)
    except TimeoutError:
        raise OperatorError(f"the broker was not ready within {timeout_s:g} s; {log} ends: {log_tail(log)}") from None


async def _answers(settings: KafkaSettings) -> bool:
    """Return true if the broker answers.

    The socket is tried first, since aiokafka logs an error for each refused connection.
    """
    host, _, port = settings.bootstrap.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    try:
        async with open_admin(settings) as admin:
            return bool((await admin.describe_cluster())["brokers"])
    except (KafkaError, OperatorError):
        return False
