"""Tests of options and arguments that are generated from request structs."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner, Result

from admin.api import PageSize, RequestContext, Since, Timestamp, endpoint, param
from infaas.cli import options
from infaas.cli.options import RequestOptions, prints, with_options
from infaas.cli.output import EXIT_QUERY, EXIT_SETUP, CommandGroup
from schemas.access import Role


class Search(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str, param("Name of the thing.", metavar="THING")]
    rank: int = 7
    """Not an option."""
    most: Annotated[PageSize, param("Maximum number.", "--most", "-n")] = 5
    share: Annotated[Annotated[float, msgspec.Meta(ge=0, le=1)] | None, param("Share.")] = None
    role: Annotated[Role, param("Role.")] = Role.QUERY
    tags: Annotated[list[str], param("Tags.", "--tag")] = []
    whole: Annotated[bool, param("All of it.")] = False
    since: Since = None
    ends: Annotated[Timestamp | None, param("End.", ahead=True)] = None
    label: Annotated[str, typer.Option("--label", help="Label of the command line alone.")] = "none"


@endpoint("things.find", "GET", "/v1/things/{name}", Role.QUERY)
async def find(_context: RequestContext, request: Search) -> Search:
    """Find a thing."""
    return request


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command that shows its request in JSON."""

    def call(_home: Path, _endpoint: object, request: Search) -> Search:
        return request

    def show(request: Search, _result: Search) -> str:
        return f"found {request.name}"

    monkeypatch.setattr(options, "call", call)
    app = typer.Typer(cls=CommandGroup)
    app.command("find")(prints(find, show))

    @app.command("take")
    @with_options
    def take(asked: RequestOptions[Search], rank: int = 0, home: Path = Path()) -> None:
        """Take a thing."""
        typer.echo(msgspec.json.encode((asked.request(), rank, str(home))))

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(app, words)

    return invoke


def test_options_fill_fields_of_request(run: Any) -> None:
    words = ("--most", "9", "--share", "0.5", "--role", "admin", "--tag", "a", "--tag", "b", "--whole", "--label", "x")
    asked = json.loads(run("find", "digits", *words, "--since", "2026-01-31T12:00+00:00", "--json").stdout)
    assert asked == {
        "name": "digits", "rank": 7, "most": 9, "share": 0.5, "role": "admin", "tags": ["a", "b"], "whole": True,
        "since": "2026-01-31T12:00:00Z", "ends": None, "label": "x",
    }  # fmt: skip


def test_options_default_to_fields_of_request(run: Any) -> None:
    asked = json.loads(run("find", "digits", "--json").stdout)
    assert msgspec.convert(asked, Search) == Search(name="digits")


def test_prints_shows_result_of_request(run: Any) -> None:
    assert run("find", "digits").stdout == "found digits\n"


@pytest.mark.parametrize(("flag", "sign"), [("--since", -1), ("--ends", 1)])
def test_options_read_distances_in_time(flag: str, sign: int, run: Any) -> None:
    asked = json.loads(run("find", "digits", flag, "2h", "--json").stdout)
    found = datetime.fromisoformat(asked[flag.strip("-")])
    assert abs(found - (datetime.now(UTC) + sign * timedelta(hours=2))) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((), EXIT_QUERY, "THING"),
        (("digits", "--most", "0"), EXIT_QUERY, "--most"),
        (("digits", "--share", "2"), EXIT_QUERY, "--share"),
        (("digits", "--share", "nan"), EXIT_QUERY, "--share"),
        (("digits", "--share", "inf"), EXIT_QUERY, "--share"),
        (("digits", "--role", "king"), EXIT_QUERY, "--role"),
        (("digits", "--since", "soon"), EXIT_SETUP, "is not a time"),
        (("digits", "--since", f"{'9' * 9}d"), EXIT_SETUP, "is not a time"),
        (("digits", "--ends", "2001-01-01"), EXIT_SETUP, "--ends 2001-01-01 has passed"),
        (("digits", "--rank", "1"), EXIT_QUERY, "--rank"),
    ],
)
def test_options_refuse_invalid_values(words: tuple[str, ...], code: int, says: str, run: Any) -> None:
    shown = run("find", *words)
    assert (shown.exit_code, says in shown.stderr) == (code, True), shown.stderr


def test_with_options_keeps_parameters_of_command(run: Any) -> None:
    asked, number, home = json.loads(run("take", "digits", "--rank", "3", "--home", "x").stdout)
    assert (asked["name"], asked["rank"], number, home) == ("digits", 7, 3, "x"), "a field without an option is not set"


def test_options_have_descriptions_as_help(run: Any) -> None:
    shown = " ".join(run("find", "--help").stdout.replace("│", " ").split())
    for text in ("Find a thing.", "Name of the thing.", "Maximum number.", "Tags. Repeatable.", "2h (ago)", "-n"):
        assert text in shown
