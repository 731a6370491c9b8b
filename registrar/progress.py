"""How far a registration is, written down now and then; that it is written keeps the claim.

Where it is not ours any more, since somebody cancelled it or another registrar has it, the work ends.
"""

import asyncio
import logging
import os
from pathlib import Path
from typing import Final

from process.event_wait import wait_within
from registrar.given_files import without_folder
from schemas.rows.registrations import RegistrationProgress
from store.errors import StoreUnavailable
from store.pool import Pool
from store.registrations import note_progress

log = logging.getLogger(__name__)

INTERRUPTED: Final = os.EX_TEMPFAIL
"""Exit code of a process that has to be begun again, since what it needs is away."""
_LEAST_S: Final = 0.2
_MOST_NOTES: Final = 200
_LONGEST: Final = 2000


class ClaimLost(Exception):
    """The registration was cancelled, or is another registrar's."""


class ProgressWriter:
    """Sink of the progress of one registration, whose files lie in `folder`."""

    def __init__(self, pool: Pool, claim: tuple[str, int], folder: Path, renew_s: float) -> None:
        self._pool = pool
        self._claim = claim
        self._folder = folder
        self._renew_s = renew_s
        self._now = RegistrationProgress()
        self._notes = list[str]()
        self._changed = asyncio.Event()

    def step(self, done: int, total: int, text: str) -> None:
        """`done` of `total` steps are finished, and `text` says what goes on now."""
        self._now = RegistrationProgress(done, total, self.shown(text), tuple(self._notes))
        self._changed.set()

    def note(self, text: str) -> None:
        """Say something that stays."""
        if len(self._notes) < _MOST_NOTES:
            self._notes.append(self.shown(text))
        self.step(self._now.done, self._now.total, self._now.doing)

    async def run(self) -> None:
        """Write until cancelled.

        Raises:
            ClaimLost: the registration is not ours any more.
        """
        while True:
            self._changed.clear()
            try:
                await self.write()
            except StoreUnavailable as error:  # nobody else can claim it either
                log.warning("how far it is cannot be written now: %s", error)
            await asyncio.sleep(_LEAST_S)
            await wait_within(self._renew_s, self._changed)

    async def write(self) -> None:
        """Write how far it is now; raises as `run` does, and `StoreUnavailable`."""
        if not await note_progress(self._pool, self._claim, self._now):
            raise ClaimLost

    def shown(self, text: str) -> str:
        """A text as who registers may see it, and Postgres keep it: a model's file may say any characters."""
        characters = text.encode(errors="replace").decode().replace("\0", "?")
        return without_folder(characters, self._folder)[:_LONGEST]
