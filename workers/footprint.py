"""Footprint of an instance on its worker: the slots that a batch takes, and the number of concurrent batches.

An instance computes on as many cores as its variant was measured with, on every worker. An instance that takes several
slots computes one batch at a time: all batches of a session share its threads, so a second batch would get fewer cores
than were measured.
"""

from typing import NamedTuple

from runtimes.catalog import is_concurrent
from schemas.errors import ModelFailed
from schemas.hardware import slots_taken
from workers.model import ServableModel
from workers.settings import WorkerSettings


class Footprint(NamedTuple):
    """Slots and concurrent batches of an instance."""

    width: int
    """Number of slots that one of its batches takes."""
    parallel: int
    """Number of its batches that may compute at once."""
    is_concurrent: bool
    """True if threads may share its session."""


def footprint_of(model: ServableModel, settings: WorkerSettings) -> Footprint:
    """Return the footprint of a model on this worker; a model that is too wide for it takes all slots."""
    width = min(slots_taken(settings.hardware, model.threads, settings.threads), settings.slots)
    concurrent = width == 1 and is_concurrent(model.variant.runtime)
    return Footprint(width, settings.slots if concurrent else 1, concurrent)


def check_width(model: ServableModel, settings: WorkerSettings) -> None:
    """Raise `ModelFailed` if a batch of the model computes on more cores than the worker has."""
    if slots_taken(settings.hardware, model.threads, settings.threads) > settings.slots:
        cores = settings.slots * settings.threads
        raise ModelFailed(f"{model.name} computes on {model.threads} cores at once, but this worker has {cores}")
