"""Dead letters over the admin API: looked at, sent again, dropped; for administrators alone.

They hold queries of all tenants, and whose one is that could not be read nobody has proved. Replaying and dropping work
on so many at a time, the oldest first, and say where to go on: no answer takes for ever, and what is cut off is gone on
with. Of a letter that was replayed or dropped nothing is done again.
"""

from datetime import datetime
from typing import Annotated, Final

import msgspec

from schemas.endpoints.endpoint import Endpoint, Moment, Number
from schemas.principal import Role

MOST_LETTERS: Final = 10_000
"""Letters that are handled at once; of more, one goes on behind the last."""
MOST_SHOWN_BYTES: Final = 1000
"""What is shown of a value."""
_Limit = Annotated[int, msgspec.Meta(ge=1, le=MOST_LETTERS)]
_Letters = Annotated[list[str], msgspec.Meta(max_length=MOST_LETTERS)]
_DEADLINE_S: Final = 300.0


class LettersRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are listed: the latest of those that fit."""

    task: str | None = None
    reason: str | None = None
    """Part of the reason, in capitals or not."""
    since: Moment | None = None
    until: Moment | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    done: bool = False
    """Those, too, that were replayed or dropped."""


class LetterOutline(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter in a list."""

    letter: str
    """Partition and offset, `0/17`, by which it is named."""
    at: datetime
    state: str
    task: str
    query: str
    topic: str
    partition: int
    offset: int
    attempts: int
    bytes: int
    whole: bool
    """Whether all of the record is kept."""
    reason: str


class ShownLetter(LetterOutline, frozen=True, kw_only=True):
    """A dead letter, with its headers and the beginning of its value."""

    key: str
    headers: list[tuple[str, str]]
    value: str


class LetterRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letter is shown."""

    partition: Number
    offset: Number


class LetterChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters of which something is to be done: the oldest of those that fit in all that is said."""

    letters: _Letters = []
    """These, as `0/17`; empty: any."""
    task: str | None = None
    reason: str | None = None
    since: Moment | None = None
    until: Moment | None = None
    limit: _Limit = 1000
    after: str = ""
    """Where the answer before said to go on."""


class DropRequest(LetterChoice, frozen=True, kw_only=True):
    """Dead letters that are to be dropped."""

    all: bool = False
    """Whether all are meant where nothing else is said."""


class HandledLetters(msgspec.Struct, frozen=True, kw_only=True):
    """How far it has come with letters of which something was to be done."""

    handled: int
    """Number of those that were looked at."""
    after: str = ""
    """Where to go on; empty: these were all."""
    until: datetime | None = None
    """To be sent with `after`, where what is done may come back as another dead letter."""


class ReplayedLetters(HandledLetters, frozen=True, kw_only=True):
    """What became of dead letters that were to be sent again."""

    replayed: int
    answered: int
    """Number of those that were not sent, since their query has an answer."""
    passed_over: dict[str, str]
    """Why others were not sent, by letter."""


class DroppedLetters(HandledLetters, frozen=True, kw_only=True):
    """What became of dead letters that were to be dropped."""

    dropped: int


LIST_LETTERS: Final = Endpoint(
    name="dead-letters.list",
    method="GET",
    path="/v1/dead-letters",
    role=Role.ADMIN,
    request=LettersRequest,
    result=list[LetterOutline],
    summary="Dead letters of which something is to be done, the latest last.",
    deadline_s=120.0,
)
SHOW_LETTER: Final = Endpoint(
    name="dead-letters.show",
    method="GET",
    path="/v1/dead-letters/{partition}/{offset}",
    role=Role.ADMIN,
    request=LetterRequest,
    result=ShownLetter,
    summary="A dead letter: why it was given up, its headers, and the beginning of its value.",
    deadline_s=120.0,
)
REPLAY_LETTERS: Final = Endpoint(
    name="dead-letters.replay",
    method="POST",
    path="/v1/dead-letters/replay",
    role=Role.ADMIN,
    request=LetterChoice,
    result=ReplayedLetters,
    summary="Ask dead letters again, under the same ids; none of them twice, and none that has an answer by now.",
    deadline_s=_DEADLINE_S,
)
DROP_LETTERS: Final = Endpoint(
    name="dead-letters.drop",
    method="POST",
    path="/v1/dead-letters/drop",
    role=Role.ADMIN,
    request=DropRequest,
    result=DroppedLetters,
    summary="Drop dead letters for good.",
    deadline_s=_DEADLINE_S,
)
DEAD_LETTERS: Final = (LIST_LETTERS, SHOW_LETTER, REPLAY_LETTERS, DROP_LETTERS)
