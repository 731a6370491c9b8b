"""Entry point and composition of the autoscaler: `python -m autoscaler`."""

import os
import sys
from collections.abc import Callable
from typing import Final

from process.cpus import lower_session
from process.start import exit_on_signal

_SWITCH_INTERVAL_S: Final = 0.0005
"""Seconds after which a computing thread must let the event loop run, instead of Python's default of 5 ms."""


def main() -> int:
    """Run the service, or with `--check` test whether it could run. Return the exit code."""
    import asyncio

    from highspy import Highs

    from autoscaler.service import serve
    from autoscaler.settings import AutoscalerSettings
    from broker.kafka.settings import KafkaSettings
    from registry.system_identity import run_service_command
    from store.settings import StoreSettings

    async def prepare_and_serve(
        settings: AutoscalerSettings, kafka: KafkaSettings, store: StoreSettings, stop: asyncio.Event
    ) -> None:
        os.nice(settings.niceness)  # threads started later inherit it
        if settings.niceness and os.getsid(0) == os.getpid():  # else other programs of a shell would yield, too
            lower_session(settings.niceness)
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        _without_output(Highs)  # its banner, once per process, would stand between log lines
        await serve(settings, kafka, store, stop)

    return run_service_command("autoscaler", AutoscalerSettings, prepare_and_serve)


def _without_output(call: Callable[[], object]) -> None:
    """Call a function of a library that prints to standard output by itself, and discard the output."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        call()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


if __name__ == "__main__":
    exit_on_signal()  # before the slow imports in `main`
    sys.exit(main())
