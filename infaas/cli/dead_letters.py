"""`infaas dead-letters`: list, show, replay and drop the queries that could not be processed."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from msgspec.structs import replace

from admin import dead_letters as letters
from admin.api import Endpoint
from admin.dead_letters import (
    MOST_SHOWN_BYTES,
    DeadLetterDetail,
    DeadLetterSummary,
    DropRequest,
    HandledDeadLetters,
    LetterChoice,
    LetterRequest,
    LettersRequest,
)
from broker.dead_letters.stored_letter import LetterId
from broker.kafka.settings import KafkaSettings
from infaas.cli.admin_client import call, gateway_url
from infaas.cli.connect import DEFAULT_HOME, Home, Json, find_kafka
from infaas.cli.options import RequestOptions, with_options
from infaas.cli.output import CommandGroup, ProgressBar, day_time, err, show, show_json, table
from schemas.errors import OperatorError

A = TypeVar("A")
B = TypeVar("B")
Q = TypeVar("Q", bound=LetterChoice)
R = TypeVar("R", bound=HandledDeadLetters)
_SHOWN_REASON: Final = 200
_MOST: Final = 100_000
_PAGE: Final = 5000

LimitFlag = Annotated[int, typer.Option(min=1, help="Maximum number, oldest first.")]

app = typer.Typer(cls=CommandGroup, no_args_is_help=True)


@app.callback()
def letters_group() -> None:
    """Inspect, replay and drop dead letters: queries that could not be processed."""


@app.command("list")
@with_options
def list_letters(options: RequestOptions[LettersRequest], home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """List open dead letters, the latest last."""
    request = options.request()
    found = _read(home, letters.list_letters, letters.found_letters, request)
    if as_json:
        return show_json(found)
    columns = ("letter", "at", "task", "query", "from", "attempts>", "bytes>", "state", "reason")
    return show(
        table(columns, [_row(letter) for letter in found], optional_columns=("bytes>", "attempts>", "from", "state"))
    )


@app.command("show")
def show_letter(
    letter: Annotated[str, typer.Argument(help="Id from `list`, e.g. 0/17.")],
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Show a dead letter: its reason, origin, headers, and the beginning of its value."""
    found = _read(home, letters.show, letters.shown_letter, _place(letter))
    return show_json(found) if as_json else _show_all(found)


@app.command()
@with_options
def replay(
    options: RequestOptions[LetterChoice], limit: LimitFlag = _MOST, home: Home = DEFAULT_HOME, as_json: Json = False
) -> None:
    """Send dead letters again under the same ids; each at most once, and none that was answered meanwhile."""
    replayed = answered = 0
    passed_over = dict[str, str]()
    for page in _pages(home, letters.replay, options.request(), limit, "sending again"):
        replayed, answered = replayed + page.replayed, answered + page.answered
        passed_over |= page.passed_over
    if as_json:
        return show_json({"replayed": replayed, "answered": answered, "passed_over": passed_over})
    err.print(f"{replayed} dead letter(s) sent again, {answered} had an answer already")
    if passed_over:
        show(table(("skipped", "reason"), list(passed_over.items())))
    return None


@app.command()
@with_options
def drop(
    options: RequestOptions[DropRequest], limit: LimitFlag = _MOST, home: Home = DEFAULT_HOME, as_json: Json = False
) -> None:
    """Drop dead letters permanently."""
    request = options.request()
    if request == DropRequest():
        raise OperatorError("name the dead letters to drop, or give --all")
    count = sum(page.dropped for page in _pages(home, letters.drop, request, limit, "dropping"))
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


def _read(
    home: Path, endpoint: Endpoint[A, B], read: Callable[[KafkaSettings, A], Coroutine[Any, Any, B]], request: A
) -> B:
    """Read dead letters over the gateway in `INFAAS_URL` if set, else from Kafka, without Postgres."""
    if gateway_url():
        return call(home, endpoint, request)
    return asyncio.run(read(find_kafka(home), request))


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
