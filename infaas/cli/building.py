"""Where the steps of a registration run, as flags say it, and where this home keeps files of models."""

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
    """Return what a registration in this process stands on."""
    artifacts = os.environ.get(ENV, "")
    return RegistryServices(pool, kafka, open_artifacts(artifacts, home), open_exchange(artifacts, home))
