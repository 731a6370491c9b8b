"""Lifecycle of a service process: signals, drain, exit code, end of a process that hangs.

A signal only sets an event. The service then stops its intake, drains and returns. It is cancelled if it has not
returned within the drain timeout, or at a second signal. Nothing is lost in either case: Kafka delivers uncommitted
records again. Draining only saves the repeated work.
"""

import asyncio
import faulthandler
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

from process.errors import leaves, os_error_words
from process.logs import LogFormat, configure_logging
from process.loop_delay import sample_loop_delay
from process.pauses import wait_within
from schemas.errors import InfaasError

log = logging.getLogger(__name__)
EXIT_OK = 0
EXIT_FAILED = 1
EXIT_HARD = 130
EXIT_REPLACE = 86
"""Exit code of a process that cannot continue but that a new process can replace; the supervisor starts one."""
_REARMS: Final = 5
"""Resets of the timer within the limit, so that one late wake-up does not end the process."""


def run_service(
    serve: Callable[[asyncio.Event], Awaitable[None]],
    *,
    drain_timeout_s: float,
    log_level: str,
    log_format: LogFormat = LogFormat.TEXT,
    hang_s: float = 0.0,
) -> int:
    """Run `serve(stop)` until it returns; set `stop` at SIGTERM or SIGINT; return the exit code of the process.

    The process ends at once if its event loop is blocked for `hang_s` (0: no limit).
    """
    configure_logging(log_level, log_format)
    code = EXIT_FAILED
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_supervise(serve, drain_timeout_s, hang_s))
    except* InfaasError as errors:
        for error in leaves(errors):
            log.error("%s", error)
    except* OSError as errors:
        for error in leaves(errors):
            # An error with a file name is a fault of the machine; another may be a defect, so it keeps its traceback.
            log.error("%s", os_error_words(error), exc_info=None if error.filename else error)
    return code


async def _supervise(serve: Callable[[asyncio.Event], Awaitable[None]], drain_timeout_s: float, hang_s: float) -> int:
    loop = asyncio.get_running_loop()
    stop, hard = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hard if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with asyncio.TaskGroup() as tasks:
        service = tasks.create_task(_as_coroutine(serve, stop), name="service")
        limit = tasks.create_task(_cancel_when_late(service, stop, hard, drain_timeout_s), name="drain limit")
        guard = tasks.create_task(end_when_hung(hang_s), name="hang guard")
        sampler = tasks.create_task(sample_loop_delay(), name="loop delay")
        await asyncio.wait({service})
        limit.cancel()
        guard.cancel()
        sampler.cancel()
    if service.cancelled():
        log.warning("drain timed out; unfinished records will be delivered again")
        return EXIT_HARD
    return EXIT_OK


async def _as_coroutine(serve: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event) -> None:
    await serve(stop)


async def _cancel_when_late(
    service: asyncio.Task[None], stop: asyncio.Event, hard: asyncio.Event, drain_timeout_s: float
) -> None:
    await stop.wait()
    log.info("stopping: draining for up to %g s", drain_timeout_s)
    await wait_within(drain_timeout_s, hard)
    service.cancel()


async def end_when_hung(limit_s: float) -> None:
    """End the process with code 1 when its event loop is blocked for `limit_s` (0: never); runs until cancelled."""
    try:
        while limit_s:
            faulthandler.dump_traceback_later(limit_s, exit=True)
            await asyncio.sleep(limit_s / _REARMS)
    finally:
        faulthandler.cancel_dump_traceback_later()
