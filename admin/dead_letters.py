"""Dead letters: list, show, replay and drop, a limited number at a time.

Functions that only read need no Postgres, so that operators can use them during an outage of Postgres.
"""

from datetime import UTC, datetime
from typing import Any, Final

from admin.binding import bind
from admin.control import RequestContext
from broker.letters.dead_letters import DeadLetters, Progress
from broker.letters.letter import LetterCursor, LetterFilter, LetterId, StoredLetter
from broker.settings import KafkaSettings
from process.signing import SigningSettings
from schemas.endpoints.dead_letters import (
    DROP_LETTERS,
    LIST_LETTERS,
    MOST_SHOWN_BYTES,
    REPLAY_LETTERS,
    SHOW_LETTER,
    DeadLetterDetail,
    DeadLetterSummary,
    DroppedLetters,
    DropRequest,
    LetterChoice,
    LetterRequest,
    LettersRequest,
    ReplayedLetters,
)
from schemas.errors import InvalidRequest, NotFound
from schemas.rows.audit import AuditAct, AuditVerb
from store.audit import audited

_NAMED: Final = 20
"""Maximum number of letters whose ids the audit log holds."""
_BEGUN_WITHIN_S: Final = 180.0
"""Seconds after which a replay starts no more letters, so that the response can report its progress."""


async def list_letters(control: RequestContext, request: LettersRequest) -> list[DeadLetterSummary]:
    """List the latest open letters, and closed ones if `done` is set."""
    return await found_letters(control.find_kafka(), request)


async def found_letters(kafka: KafkaSettings, request: LettersRequest) -> list[DeadLetterSummary]:
    """List letters with access to Kafka alone."""
    wanted = _filter(request, done=request.done)
    return [DeadLetterSummary(**_outline(stored)) for stored in await DeadLetters(kafka).find(wanted, request.limit)]


async def show(control: RequestContext, request: LetterRequest) -> DeadLetterDetail:
    """Show a letter and the beginning of its value.

    Raises:
        NotFound: there is no such letter.
    """
    return await shown_letter(control.find_kafka(), request)


async def shown_letter(kafka: KafkaSettings, request: LetterRequest) -> DeadLetterDetail:
    """Show a letter with access to Kafka alone.

    Raises:
        NotFound: there is no such letter.
    """
    place = LetterId(request.partition, request.offset)
    found = await DeadLetters(kafka).show(place)
    if found is None:
        raise NotFound(f"there is no dead letter {place}; `infaas dead-letters list --done` lists them")
    letter = found.letter
    return DeadLetterDetail(
        **_outline(found),
        key=_text(letter.key or b""),
        headers=[(name.encode(errors="replace").decode(), _text(value)) for name, value in letter.headers],
        value=_text((letter.value or b"")[:MOST_SHOWN_BYTES]),
    )


async def replay(control: RequestContext, request: LetterChoice, progress: Progress | None = None) -> ReplayedLetters:
    """Send the queries of letters again under the same ids; skip letters already replayed or answered."""
    box = DeadLetters(control.find_kafka(), SigningSettings().read())
    wanted = _chosen(request)
    async with audited(control.pool, _act(control, AuditVerb.REPLAY_LETTERS, request)):
        letters = await box.find(wanted, request.limit, oldest=True)
        report = await box.replay(letters, progress or _unseen, _BEGUN_WITHIN_S)
    return ReplayedLetters(
        handled=report.replayed + report.answered + len(report.passed_over),
        replayed=report.replayed,
        answered=report.answered,
        passed_over=report.passed_over,
        after=report.after or _behind(letters, request.limit),
        until=request.until or (_moment(report.begun_ms) if report.begun_ms else None),
    )


async def drop(control: RequestContext, request: DropRequest, progress: Progress | None = None) -> DroppedLetters:
    """Drop letters for good.

    Raises:
        InvalidRequest: the request selects no letters.
    """
    box, wanted = DeadLetters(control.find_kafka()), _chosen(request)
    if not (request.all or request.letters or _said(request)):
        raise InvalidRequest("name the dead letters to drop, or give --all")
    async with audited(control.pool, _act(control, AuditVerb.DROP_LETTERS, request)):
        letters = await box.find(wanted, request.limit, oldest=True)
        dropped = await box.drop(letters, progress or _unseen)
    return DroppedLetters(handled=dropped, dropped=dropped, after=_behind(letters, request.limit))


def letter_id(text: str) -> LetterId:
    """Read the id of a letter, `0/17` or `17`.

    Raises:
        InvalidRequest: the text is not such an id.
    """
    try:
        return LetterId.parse(text)
    except ValueError:
        raise InvalidRequest(f"{text[:80]!r} is not a dead letter id; use an id from `list`, e.g. 0/17") from None


def _chosen(request: LetterChoice) -> LetterFilter:
    try:
        after = LetterCursor.parse(request.after) if request.after else None
    except ValueError:
        raise InvalidRequest(f"{request.after[:80]!r} is not a cursor: send the `after` of a response") from None
    return _filter(request, ids=frozenset(map(letter_id, request.letters)), after=after)


def _filter(request: LettersRequest | LetterChoice, **more: Any) -> LetterFilter:
    return LetterFilter(
        task=request.task,
        reason=request.reason,
        since_ms=None if request.since is None else max(request.since.timestamp() * 1e3, 0.0),
        until_ms=None if request.until is None else request.until.timestamp() * 1e3,
        **more,
    )


def _behind(letters: list[StoredLetter], limit: int) -> str:
    """Return the cursor of the next page; empty if this page is the last."""
    return str(letters[-1].cursor) if len(letters) == limit else ""


def _act(control: RequestContext, verb: AuditVerb, request: LetterChoice) -> AuditAct:
    more = len(request.letters) - _NAMED
    named = ", ".join(request.letters[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    went_on = {"after": request.after} if request.after else {}
    return control.act(verb, named, **_said(request), **went_on)


def _said(request: LetterChoice) -> dict[str, Any]:
    asked = {"task": request.task, "reason": request.reason, "since": request.since, "until": request.until}
    return {name: value for name, value in asked.items() if value is not None}


def _outline(stored: StoredLetter) -> dict[str, Any]:
    letter = stored.letter
    return {
        "letter": str(stored.id),
        "at": _moment(stored.at_ms),
        "state": stored.state.value,
        "task": stored.task,
        "query": stored.query,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "attempts": letter.attempts,
        "bytes": stored.value_bytes,
        "whole": not letter.shortened,
        "reason": letter.reason,
    }


def _moment(at_ms: float) -> datetime:
    return datetime.fromtimestamp(at_ms / 1e3, UTC)


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def _unseen(_done: int, _total: int) -> None: ...


BINDINGS: Final = (
    bind(LIST_LETTERS, list_letters),
    bind(SHOW_LETTER, show),
    bind(REPLAY_LETTERS, replay),
    bind(DROP_LETTERS, drop),
)
