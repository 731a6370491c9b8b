"""Flags for the place where a registration's steps run, and the services that a registration needs."""

import os
from pathlib import Path
from typing import Annotated

import typer

from broker.settings import KafkaSettings
from registry.artifact_settings import ENV, open_artifacts, open_exchange
from registry.builds.chosen_steps import RegistryServices
from schemas.registrations import IfNoWorker
from store.pool import Pool

LocalFlag = Annotated[
    bool, typer.Option("--local", help="Make and measure variants on this machine, whatever workers there are.")
]
IfNoWorkerFlag = Annotated[
    IfNoWorker,
    typer.Option(help="Where no worker of a --hardware is there: use this machine's, wait for one, or leave it out."),
]


def services_of(pool: Pool, kafka: KafkaSettings, home: Path) -> RegistryServices:
    """Return the services of a registration in this process."""
    artifacts = os.environ.get(ENV, "")
    return RegistryServices(pool, kafka, open_artifacts(artifacts, home), open_exchange(artifacts, home))
