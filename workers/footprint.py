"""What an instance takes of its worker while it computes: how many slots, and how many batches at once.

An instance computes on as many cores as its variant was measured with, whatever worker it is on. One that takes several
slots computes one batch at a time: the threads of a session are shared by all that computes with it, so a second batch
would have fewer than were measured.
"""

from typing import NamedTuple

from runtimes.catalog import is_concurrent
from schemas.errors import ModelFailed
from schemas.hardware import slots_taken
from workers.model import ServableModel
from workers.settings import WorkerSettings


class Footprint(NamedTuple):
    """Slots and batches of an instance."""

    width: int
    """Slots that one of its batches takes."""
    parallel: int
    """Number of its batches that may compute at once."""
    is_concurrent: bool
    """Whether threads may share its session."""


def footprint_of(model: ServableModel, settings: WorkerSettings) -> Footprint:
    """What an instance of this model takes here; of one that is too wide for the worker, all there is."""
    width = min(slots_taken(settings.hardware, model.threads, settings.threads), settings.slots)
    concurrent = width == 1 and is_concurrent(model.variant.runtime)
    return Footprint(width, settings.slots if concurrent else 1, concurrent)


def check_width(model: ServableModel, settings: WorkerSettings) -> None:
    """Raise `ModelFailed` if a batch of the model computes on more cores than the worker has."""
    if slots_taken(settings.hardware, model.threads, settings.threads) > settings.slots:
        cores = settings.slots * settings.threads
        raise ModelFailed(f"{model.name} computes on {model.threads} cores at once, and this worker has {cores}")
