"""`infaas dead-letters`: what could not be processed; it is looked at, sent again, or dropped."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from broker.letters.letter import LetterFilter, LetterId, StoredLetter
from broker.letters.letter_box import LetterBox, Progress, ReplayReport
from infaas.cli.connect import DEFAULT_HOME, Home, Json, act_here, find_kafka, with_database
from infaas.cli.moments import parse_moment
from infaas.cli.output import CommandGroup, day_time, err, show, show_json, table
from infaas.cli.register import ProgressBar
from process.signing import SigningSettings
from schemas.errors import OperatorError
from schemas.rows.audit import AuditAct, AuditVerb
from store.audit import audited
from store.pool import Pool

T = TypeVar("T")
_SHOWN_BYTES: Final = 1000
_SHOWN_REASON: Final = 200
_MOST: Final = 100_000

LettersArgument = Annotated[list[str] | None, typer.Argument(metavar="LETTER", help="e.g. 0/17; default: all.")]
TaskFlag = Annotated[str | None, typer.Option("--task", help="Only of this task.")]
ReasonFlag = Annotated[str | None, typer.Option("--reason", help="Only with this in their reason.")]
SinceFlag = Annotated[str | None, typer.Option("--since", help="Only those since then: 2h ago, or 2026-01-31T12:00.")]
UntilFlag = Annotated[str | None, typer.Option("--until", help="Only those before then.")]

app = typer.Typer(cls=CommandGroup, no_args_is_help=True)


@app.callback()
def dead_letters() -> None:
    """Care for the queries that could not be processed."""


@app.command("list")
def list_letters(
    task: TaskFlag = None,
    reason: ReasonFlag = None,
    since: SinceFlag = None,
    until: UntilFlag = None,
    limit: Annotated[int, typer.Option(min=1, help="The latest so many.")] = 100,
    done: Annotated[bool, typer.Option("--done", help="Those, too, that were replayed or dropped.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """List the dead letters of which something is to be done, the latest last."""
    wanted = _filter(None, task, reason, since, until, done=done)
    found = _ask(home, lambda box: box.find(wanted, limit))
    if as_json:
        return show_json([_as_json(stored) for stored in found])
    columns = ("letter", "at", "task", "query", "from", "attempts>", "bytes>", "state", "reason")
    return show(table(columns, [_row(stored) for stored in found], spare=("bytes>", "attempts>", "from", "state")))


@app.command("show")
def show_letter(
    letter: Annotated[str, typer.Argument(help="e.g. 0/17, as `list` names it.")],
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Show a dead letter: why it was given up, where it came from, its headers, and the beginning of its value."""
    found = _ask(home, lambda box: box.show(_id(letter)))
    if found is None:
        raise OperatorError(f"there is no dead letter {letter}; `infaas dead-letters list --done` lists them")
    value = found.letter.value or b""
    text = value[:_SHOWN_BYTES].decode(errors="backslashreplace")
    headers = [(name, header.decode(errors="backslashreplace")) for name, header in found.letter.headers]
    if as_json:
        return show_json(_as_json(found) | {"headers": headers, "value": text})
    facts = [*_as_json(found).items(), ("key", (found.letter.key or b"").decode(errors="backslashreplace"))]
    show(table(("fact", "value"), facts))
    show(table(("header", "value"), headers))
    more = f", the first {_SHOWN_BYTES} of" if len(value) > _SHOWN_BYTES else ""
    return show(table((f"value{more} {len(value)} bytes",), [(text,)]))


@app.command()
def replay(
    letters: LettersArgument = None,
    task: TaskFlag = None,
    reason: ReasonFlag = None,
    since: SinceFlag = None,
    until: UntilFlag = None,
    limit: Annotated[int, typer.Option(min=1, help="The oldest so many.")] = _MOST,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Ask dead letters again, under the same ids; none of them twice, and none that has an answer by now."""
    wanted = _filter(letters, task, reason, since, until)

    async def replay_found(box: LetterBox, progress: Progress) -> ReplayReport:
        return await box.replay(await box.find(wanted, limit, oldest=True), progress)

    act = _act(AuditVerb.REPLAY_LETTERS, letters, task, reason, since, until)
    report = _with_progress(home, "sending again", act, replay_found)
    if as_json:
        return show_json(report)
    err.print(f"{report.replayed} dead letter(s) sent again, {report.answered} had an answer already")
    if report.passed_over:
        show(table(("passed over", "why"), list(report.passed_over.items())))
    return None


@app.command()
def drop(
    letters: LettersArgument = None,
    task: TaskFlag = None,
    reason: ReasonFlag = None,
    since: SinceFlag = None,
    until: UntilFlag = None,
    limit: Annotated[int, typer.Option(min=1, help="The oldest so many.")] = _MOST,
    everything: Annotated[
        bool, typer.Option("--all", help="All there are; needed where nothing else is said.")
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Drop dead letters for good."""
    wanted = _filter(letters, task, reason, since, until)
    if wanted == LetterFilter() and not everything:
        raise OperatorError("say which dead letters to drop, or --all of them")

    async def drop_found(box: LetterBox, progress: Progress) -> int:
        return await box.drop(await box.find(wanted, limit, oldest=True), progress)

    act = _act(AuditVerb.DROP_LETTERS, letters, task, reason, since, until)
    count = _with_progress(home, "dropping", act, drop_found)
    if as_json:
        show_json({"dropped": count})
    else:
        err.print(f"{count} dead letter(s) dropped")


def _ask(home: Path, question: Callable[[LetterBox], Awaitable[T]]) -> T:
    async def ask() -> T:
        return await question(LetterBox(find_kafka(home)))

    return asyncio.run(ask())


def _with_progress(home: Path, text: str, act: AuditAct, work: Callable[[LetterBox, Progress], Awaitable[T]]) -> T:
    async def recorded(pool: Pool) -> T:
        box = LetterBox(find_kafka(home), SigningSettings().read())
        async with audited(pool, act):
            return await work(box, lambda done, total: bar.step(done, total, text))

    with ProgressBar() as bar:
        return with_database(home, recorded)


def _act(
    verb: AuditVerb, letters: list[str] | None, task: str | None, reason: str | None, since: str | None,
    until: str | None,
) -> AuditAct:  # fmt: skip
    asked = {"task": task, "reason": reason, "since": since, "until": until}
    return act_here(verb, ", ".join(letters or ()), **{name: text for name, text in asked.items() if text is not None})


def _filter(
    letters: list[str] | None, task: str | None, reason: str | None, since: str | None, until: str | None, *,
    done: bool = False,
) -> LetterFilter:  # fmt: skip
    now_s = time.time()
    return LetterFilter(
        ids=tuple(_id(letter) for letter in letters or ()),
        task=task,
        reason=reason,
        since_ms=None if since is None else parse_moment(since, now_s) * 1e3,
        until_ms=None if until is None else parse_moment(until, now_s) * 1e3,
        done=done,
    )


def _id(text: str) -> LetterId:
    try:
        return LetterId.parse(text)
    except ValueError:
        raise OperatorError(f"{text!r} names no dead letter: write it as `list` does, e.g. 0/17") from None


def _as_json(stored: StoredLetter) -> dict[str, Any]:
    letter = stored.letter
    return {
        "letter": str(stored.id),
        "at": datetime.fromtimestamp(stored.at_ms / 1e3, UTC).isoformat(timespec="milliseconds"),
        "state": stored.state,
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


def _row(stored: StoredLetter) -> tuple[object, ...]:
    letter = stored.letter
    at = day_time(datetime.fromtimestamp(stored.at_ms / 1e3, UTC))
    place = f"{letter.topic} {letter.partition}/{letter.offset}"
    reason = letter.reason if len(letter.reason) <= _SHOWN_REASON else f"{letter.reason[:_SHOWN_REASON]}..."
    return (
        stored.id, at, stored.task, stored.query, place, letter.attempts, stored.value_bytes, stored.state, reason
    )  # fmt: skip
