"""Wait until a broker that was started on this machine can be used."""

import asyncio
from pathlib import Path
from typing import Final

from aiokafka.errors import KafkaError

from broker.client import open_admin
from broker.settings import KafkaSettings
from process.subprocesses import log_tail
from schemas.errors import OperatorError

_TRY_INTERVAL_S: Final = 0.05


async def wait_until_ready(
    process: asyncio.subprocess.Process, settings: KafkaSettings, log: Path, timeout_s: float
) -> None:
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
