"""Dead-letter endpoints of the admin API: list, show, replay and drop; for administrators only.

Dead letters hold queries of all tenants, and the tenant of an unreadable record is not proved. Replay and drop handle a
limited number of dead letters in each request, oldest first, and return the position at which the next request
continues. So every request ends in time, and an interrupted one can be continued. A dead letter that was replayed or
dropped is not handled again.
"""

from datetime import datetime
from typing import Annotated, Final

import msgspec

from schemas.endpoints.endpoint import Endpoint, Number, Timestamp
from schemas.principal import Role

MOST_LETTERS: Final = 10_000
"""Maximum number of dead letters in one request; the next request continues after the last one."""
MOST_SHOWN_BYTES: Final = 1000
"""Maximum number of bytes of a record's value in an answer."""
_Limit = Annotated[int, msgspec.Meta(ge=1, le=MOST_LETTERS)]
_Letters = Annotated[list[str], msgspec.Meta(max_length=MOST_LETTERS)]
_DEADLINE_S: Final = 300.0


class LettersRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Filter of the listed dead letters; the latest matches are returned."""

    task: str | None = None
    reason: str | None = None
    """Part of the reason; upper and lower case are equal."""
    since: Timestamp | None = None
    until: Timestamp | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    done: bool = False
    """Include dead letters that were replayed or dropped."""


class DeadLetterSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Entry in a list of dead letters."""

    letter: str
    """Name of the dead letter: partition and offset, e.g. `0/17`."""
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
    """True if the complete record is kept."""
    reason: str


class DeadLetterDetail(DeadLetterSummary, frozen=True, kw_only=True):
    """Dead letter with its headers and the beginning of its value."""

    key: str
    headers: list[tuple[str, str]]
    value: str


class LetterRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for one dead letter."""

    partition: Number
    offset: Number


class LetterChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Selection of dead letters to handle: the oldest that match every field that is given."""

    letters: _Letters = []
    """Names of dead letters, e.g. `0/17`; empty: any."""
    task: str | None = None
    reason: str | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None
    limit: _Limit = 1000
    after: str = ""
    """Position from the previous answer at which to continue."""


class DropRequest(LetterChoice, frozen=True, kw_only=True):
    """Selection of dead letters to drop."""

    all: bool = False
    """Confirms that all dead letters are meant if no other field is given."""


class HandledDeadLetters(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a request that handles dead letters."""

    handled: int
    """Number of dead letters that were examined."""
    after: str = ""
    """Position at which to continue; empty: there are no more."""
    until: datetime | None = None
    """Value to send as `until` together with `after`. It excludes new dead letters that the replayed queries may
    cause."""


class ReplayedLetters(HandledDeadLetters, frozen=True, kw_only=True):
    """Result of replaying dead letters."""

    replayed: int
    answered: int
    """Number of dead letters that were not sent because their query already has an answer."""
    passed_over: dict[str, str]
    """Reason why each of the other dead letters was not sent, by name."""


class DroppedLetters(HandledDeadLetters, frozen=True, kw_only=True):
    """Result of dropping dead letters."""

    dropped: int


LIST_LETTERS: Final = Endpoint(
    name="dead-letters.list",
    method="GET",
    path="/v1/dead-letters",
    role=Role.ADMIN,
    request=LettersRequest,
    result=list[DeadLetterSummary],
    summary="List open dead letters, the latest last.",
    deadline_s=120.0,
)
SHOW_LETTER: Final = Endpoint(
    name="dead-letters.show",
    method="GET",
    path="/v1/dead-letters/{partition}/{offset}",
    role=Role.ADMIN,
    request=LetterRequest,
    result=DeadLetterDetail,
    summary="Show a dead letter: its reason, its headers, and the beginning of its value.",
    deadline_s=120.0,
)
REPLAY_LETTERS: Final = Endpoint(
    name="dead-letters.replay",
    method="POST",
    path="/v1/dead-letters/replay",
    role=Role.ADMIN,
    request=LetterChoice,
    result=ReplayedLetters,
    summary="Replay dead letters under the same ids; each at most once, and none that was answered meanwhile.",
    deadline_s=_DEADLINE_S,
)
DROP_LETTERS: Final = Endpoint(
    name="dead-letters.drop",
    method="POST",
    path="/v1/dead-letters/drop",
    role=Role.ADMIN,
    request=DropRequest,
    result=DroppedLetters,
    summary="Drop dead letters permanently.",
    deadline_s=_DEADLINE_S,
)
DEAD_LETTERS: Final = (LIST_LETTERS, SHOW_LETTER, REPLAY_LETTERS, DROP_LETTERS)
