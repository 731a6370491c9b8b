"""Test of the AsyncAPI document by the official parser, a Node.js program."""

import subprocess

import pytest

from schemas.documents.__main__ import FOLDER
from tests.installed import npm_installed

pytestmark = pytest.mark.needs_node


@pytest.mark.needs_node
def test_asyncapi_is_valid() -> None:
    parser = npm_installed(FOLDER / "validate", "asyncapi", "install")
    document = (FOLDER / "asyncapi.json").read_text()
    done = subprocess.run(
        ["node", "asyncapi.mjs"], cwd=parser, input=document, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
