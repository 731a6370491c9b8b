"""Command line of the autoscaler; starts the service with its settings."""

import asyncio
import os
import sys
from typing import Final

from highspy import Highs

from autoscaler.service import serve
from autoscaler.settings import AutoscalerSettings
from broker.settings import KafkaSettings
from registry.service_command import run_service_command
from store.settings import StoreSettings

_SWITCH_INTERVAL_S: Final = 0.0005
"""Seconds after which a computing thread must let the event loop run, instead of Python's default of 5 ms."""


def main() -> int:
    """Run the service, or with `--check` test whether it could run. Return the exit code."""
    return run_service_command("autoscaler", AutoscalerSettings, _serve)


async def _serve(settings: AutoscalerSettings, kafka: KafkaSettings, store: StoreSettings, stop: asyncio.Event) -> None:
    os.nice(settings.niceness)  # threads started later inherit it
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    _let_solver_greet()
    await serve(settings, kafka, store, stop)


def _let_solver_greet() -> None:
    """Discard HiGHS's banner: once per process it prints to standard output, which holds log lines."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        Highs()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
