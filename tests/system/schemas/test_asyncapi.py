"""Tests of the AsyncAPI document by the official parser, a Node.js program."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas.documents.__main__ import FOLDER
from tests.installed import npm_installed

VALIDATE = FOLDER / "validate"


@pytest.fixture(scope="session")
def parser() -> Path:
    """Install the official AsyncAPI parser into the user's cache, once; return its folder."""
    return npm_installed(VALIDATE, "asyncapi", "install")


def validate(parser: Path, document: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        ["node", "asyncapi.mjs"],
        cwd=parser,
        input=json.dumps(document),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_asyncapi_is_valid(parser: Path) -> None:
    assert validate(parser, json.loads((FOLDER / "asyncapi.json").read_text())) == (0, [])


def test_asyncapi_parser_finds_errors(parser: Path) -> None:
    broken = json.loads((FOLDER / "asyncapi.json").read_text())
    broken["operations"]["answerQuery"]["channel"] = {"$ref": "#/channels/absent"}
    code, found = validate(parser, broken)
    assert code == 1
    assert found
