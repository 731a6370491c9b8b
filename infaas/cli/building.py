"""Flags for the place where a registration's steps run, and the services that a registration needs."""

import os
from pathlib import Path
from typing import Annotated

import typer

from broker.settings import KafkaSettings
from registry.artifact_settings import ENV, open_artifacts, open_exchange
from registry.builds.open_executor import RegistryServices
from schemas.registrations import MissingWorkerPolicy
from store.pool import Pool

LocalFlag = Annotated[
    bool, typer.Option("--local", help="Make and measure variants on this machine instead of on workers.")
]
IfNoWorkerFlag = Annotated[
    MissingWorkerPolicy,
    typer.Option(help="If no worker has the --hardware: use this machine, wait, or skip."),
]


def services_of(pool: Pool, kafka: KafkaSettings, home: Path) -> RegistryServices:
    """Return the services of a registration in this process."""
    artifacts = os.environ.get(ENV, "")
    return RegistryServices(pool, kafka, open_artifacts(artifacts, home), open_exchange(artifacts, home))
