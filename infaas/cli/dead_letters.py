"""`infaas dead-letters`: list, show, replay and drop the queries that could not be processed."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer
from msgspec.structs import replace

from broker.letters.letter import LetterId
from broker.settings import KafkaSettings
from infaas.cli.connect import DEFAULT_HOME, Home, Json, find_kafka
from infaas.cli.control import call, gateway_url
from infaas.cli.moments import past_moment
from infaas.cli.output import CommandGroup, day_time, err, show, show_json, table
from infaas.cli.progress_bar import ProgressBar
from schemas.endpoints.dead_letters import (
    DROP_LETTERS,
    LIST_LETTERS,
    MOST_SHOWN_BYTES,
    REPLAY_LETTERS,
    SHOW_LETTER,
    DeadLetterDetail,
    DeadLetterSummary,
    DropRequest,
    HandledDeadLetters,
    LetterChoice,
    LetterRequest,
    LettersRequest,
)
from schemas.endpoints.endpoint import Endpoint
from schemas.errors import OperatorError

T = TypeVar("T")
Q = TypeVar("Q", bound=LetterChoice)
R = TypeVar("R", bound=HandledDeadLetters)
_SHOWN_REASON: Final = 200
_MOST: Final = 100_000
_PAGE: Final = 5000

LettersArgument = Annotated[list[str] | None, typer.Argument(metavar="LETTER", help="e.g. 0/17; default: all.")]
TaskFlag = Annotated[str | None, typer.Option("--task", help="Only of this task.")]
ReasonFlag = Annotated[str | None, typer.Option("--reason", help="Only with this text in the reason.")]
SinceFlag = Annotated[str | None, typer.Option("--since", help="Only later ones: 2h ago, or 2026-01-31T12:00.")]
UntilFlag = Annotated[str | None, typer.Option("--until", help="Only earlier ones.")]

app = typer.Typer(cls=CommandGroup, no_args_is_help=True)


@app.callback()
def dead_letters() -> None:
    """Inspect, replay and drop dead letters: queries that could not be processed."""


@app.command("list")
def list_letters(
    task: TaskFlag = None,
    reason: ReasonFlag = None,
    since: SinceFlag = None,
    until: UntilFlag = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number; the latest ones.")] = 100,
    done: Annotated[bool, typer.Option("--done", help="Include replayed and dropped ones.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """List open dead letters, the latest last."""
    request = LettersRequest(
        task=task, reason=reason, since=past_moment(since), until=past_moment(until), limit=limit, done=done
    )
    if gateway_url():
        found = call(home, LIST_LETTERS, request)
    else:
        from admin.dead_letters import found_letters  # not needed with a gateway

        found = _ask(home, lambda kafka: found_letters(kafka, request))
    if as_json:
        return show_json(found)
    columns = ("letter", "at", "task", "query", "from", "attempts>", "bytes>", "state", "reason")
    return show(table(columns, [_row(letter) for letter in found], spare=("bytes>", "attempts>", "from", "state")))


@app.command("show")
def show_letter(
    letter: Annotated[str, typer.Argument(help="Id from `list`, e.g. 0/17.")],
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Show a dead letter: its reason, origin, headers, and the beginning of its value."""
    request = _place(letter)
    if gateway_url():
        found = call(home, SHOW_LETTER, request)
    else:
        from admin.dead_letters import shown_letter  # not needed with a gateway

        found = _ask(home, lambda kafka: shown_letter(kafka, request))
    return show_json(found) if as_json else _show_all(found)


@app.command()
def replay(
    letters: LettersArgument = None,
    task: TaskFlag = None,
    reason: ReasonFlag = None,
    since: SinceFlag = None,
    until: UntilFlag = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number, oldest first.")] = _MOST,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Send dead letters again under the same ids; each at most once, and none that was answered meanwhile."""
    request = LetterChoice(
        letters=letters or [], task=task, reason=reason, since=past_moment(since), until=past_moment(until)
    )
    replayed = answered = 0
    passed_over = dict[str, str]()
    for page in _pages(home, REPLAY_LETTERS, request, limit, "sending again"):
        replayed, answered = replayed + page.replayed, answered + page.answered
        passed_over |= page.passed_over
    if as_json:
        return show_json({"replayed": replayed, "answered": answered, "passed_over": passed_over})
    err.print(f"{replayed} dead letter(s) sent again, {answered} had an answer already")
    if passed_over:
        show(table(("skipped", "reason"), list(passed_over.items())))
    return None


@app.command()
def drop(
    letters: LettersArgument = None,
    task: TaskFlag = None,
    reason: ReasonFlag = None,
    since: SinceFlag = None,
    until: UntilFlag = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number, oldest first.")] = _MOST,
    everything: Annotated[
        bool, typer.Option("--all", help="All of them; required if nothing else selects any.")
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Drop dead letters permanently."""
    if not (letters or task or reason or since or until or everything):
        raise OperatorError("name the dead letters to drop, or give --all")
    request = DropRequest(
        letters=letters or [],
        task=task,
        reason=reason,
        since=past_moment(since),
        until=past_moment(until),
        all=everything,
    )
    count = sum(page.dropped for page in _pages(home, DROP_LETTERS, request, limit, "dropping"))
    if as_json:
        show_json({"dropped": count})
    else:
        err.print(f"{count} dead letter(s) dropped")


def _pages(home: Path, endpoint: Endpoint[Q, R], request: Q, limit: int, text: str) -> Generator[R]:
    """Process dead letters page by page, up to `limit`; yields the results."""
    done = 0
    with ProgressBar() as bar:
        while done < limit:
            page = call(home, endpoint, replace(request, limit=min(limit - done, _PAGE)))
            done += page.handled
            bar.step(done, done if not page.after else limit, text)
            yield page
            if not page.after:
                return
            request = replace(request, after=page.after, until=request.until or page.until)


def _ask(home: Path, question: Callable[[KafkaSettings], Awaitable[T]]) -> T:
    async def ask() -> T:
        return await question(find_kafka(home))

    return asyncio.run(ask())


def _place(text: str) -> LetterRequest:
    try:
        place = LetterId.parse(text)
    except ValueError:
        raise OperatorError(f"{text!r} is not a dead letter id; use an id from `list`, e.g. 0/17") from None
    return LetterRequest(partition=place.partition, offset=place.offset)


def _show_all(found: DeadLetterDetail) -> None:
    facts = {name: getattr(found, name) for name in DeadLetterSummary.__struct_fields__}
    show(table(("fact", "value"), [*facts.items(), ("key", found.key)]))
    show(table(("header", "value"), found.headers))
    more = f", the first {MOST_SHOWN_BYTES} of" if found.bytes > MOST_SHOWN_BYTES else ""
    show(table((f"value{more} {found.bytes} bytes",), [(found.value,)]))


def _row(letter: DeadLetterSummary) -> tuple[object, ...]:
    place = f"{letter.topic} {letter.partition}/{letter.offset}"
    reason = letter.reason if len(letter.reason) <= _SHOWN_REASON else f"{letter.reason[:_SHOWN_REASON]}..."
    return (
        letter.letter, day_time(letter.at), letter.task, letter.query, place, letter.attempts, letter.bytes,
        letter.state, reason,
    )  # fmt: skip
