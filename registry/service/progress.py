"""Writes the progress of a registration to Postgres at intervals; each write renews the claim.

If the registration was cancelled or claimed by another registrar, the writer raises `ClaimLost` and the work ends.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

from process.pauses import wait_within
from registry.service.staged_files import strip_working_folder
from schemas.rows.registrations import RegistrationProgress
from store.claims import Claim
from store.errors import StoreUnavailable
from store.pool import Pool
from store.registrations import note_progress

log = logging.getLogger(__name__)

_LEAST_S: Final = 0.2
_MOST_NOTES: Final = 200
_LONGEST: Final = 2000


class ClaimLost(Exception):
    """The registration was cancelled or claimed by another registrar."""


class ProgressWriter:
    """Progress sink that writes to Postgres.

    `claim` is the claim on the registration, `folder` its working folder, and `renew_s` the most seconds between
    two writes.
    """

    def __init__(self, pool: Pool, claim: Claim, folder: Path, renew_s: float) -> None:
        self._pool = pool
        self._claim = claim
        self._folder = folder
        self._renew_s = renew_s
        self._now = RegistrationProgress()
        self._notes = list[str]()
        self._changed = asyncio.Event()

    def step(self, done: int, total: int, text: str) -> None:
        """Show that `done` of `total` steps are finished, and `text` as the current activity."""
        self._now = RegistrationProgress(done, total, self.shown(text), tuple(self._notes))
        self._changed.set()

    def note(self, text: str) -> None:
        """Add a note that stays visible."""
        if len(self._notes) < _MOST_NOTES:
            self._notes.append(self.shown(text))
        self.step(self._now.done, self._now.total, self._now.doing)

    async def run(self) -> None:
        """Write the progress until cancelled.

        Raises:
            ClaimLost: the claim on the registration was lost.
        """
        while True:
            self._changed.clear()
            try:
                await self.write()
            except StoreUnavailable as error:  # no other registrar can claim it either
                log.warning("cannot write the progress: %s", error)
            await asyncio.sleep(_LEAST_S)
            await wait_within(self._renew_s, self._changed)

    async def write(self) -> None:
        """Write the current progress.

        Raises:
            ClaimLost: the claim on the registration was lost.
            StoreUnavailable: Postgres cannot be reached.
        """
        if not await note_progress(self._pool, self._claim, self._now):
            raise ClaimLost

    def shown(self, text: str) -> str:
        """Return a text in a form that tenants may see and Postgres can store.

        Paths of the working folder are removed. Characters that UTF-8 or Postgres do not accept are replaced: texts may
        come from a model file. The result is at most 2000 characters long.
        """
        characters = text.encode(errors="replace").decode().replace("\0", "?")
        return strip_working_folder(characters, self._folder)[:_LONGEST]
