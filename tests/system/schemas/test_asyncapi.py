"""Tests of the AsyncAPI document by the official parser, a Node.js program."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas.documents.__main__ import FOLDER

VALIDATE = FOLDER / "validate"


@pytest.fixture(scope="session")
def parser() -> Path:
    """Install the official AsyncAPI parser into the user's cache, once; return its folder."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("the AsyncAPI parser needs node 18+ and npm on PATH; neither is part of `make`'s needs")
    sources = sorted(path for path in VALIDATE.iterdir() if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "infaas" / f"asyncapi-{digest}"
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for path in sources:
            shutil.copy(path, folder)
        command = [npm, "install", "--no-audit", "--no-fund", "--silent"]
        installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
        if installed.returncode:
            pytest.skip(f"`{' '.join(command)}` in {folder} failed: {installed.stderr[-300:]}")
        (folder / "installed").touch()
    return folder


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
