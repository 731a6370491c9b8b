"""The blocks of shell commands in the documentation: their text, the commands of `infaas` in them, and their execution.

A block runs as it is written, except for names of the reader: hosts, ports, tenants, tasks, files. Each line must
succeed. A line that begins a system is not executed with the others: the fixture of the system starts it with the
variables and flags of that line (`start_of`), and the other lines run in the system (`without_start`).
"""

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

ROOT = Path(__file__).parents[1]
_LIMIT_S: Final = 180.0
_INFAAS: Final = f'set -e; infaas() {{ "{sys.executable}" -m infaas.cli.main "$@"; }}\n'
_START: Final = re.compile(r"^(?P<variables>(?:\w+=\S+ )*)infaas up\b(?P<flags>.*)\n", re.MULTILINE)
_COPIES = (ROOT / "docs/index.md", ROOT / "docs/tutorial.md")
"""Pages of the site that are made from others."""
PAGES = [
    *sorted({*ROOT.glob("docs/*.md"), *ROOT.glob("docs/explanation/*.md")}.difference(_COPIES)),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docker/README.md")),
]
"""Pages with commands."""


class Block(NamedTuple):
    """A block of shell commands of a page."""

    page: str
    number: int
    """Its place among those of the page, from 0."""
    text: str

    @property
    def name(self) -> str:
        """Page and number."""
        return f"{self.page}#{self.number}"

    def commands(self) -> list[list[str]]:
        """Return the words of each command of `infaas`, without `infaas`."""
        lexer = shlex.shlex(re.sub(r"\\\n|(^|\s)#.*", " ", self.text), posix=True, punctuation_chars=";&|\n")
        lexer.whitespace, lexer.whitespace_split = " \t", True
        found: list[list[str]] = [[]]
        for word in lexer:
            if set(word) <= set(";&|\n"):
                found.append([])
            elif found[-1] or not re.match(r"\w+=", word):  # variables before a command are not part of it
                found[-1].append(word)
        ours = [words for words in found if "infaas" in words and words[0] in ("infaas", "docker")]
        return [words[words.index("infaas") + 1 :] for words in ours]


BLOCKS = [
    Block(page.relative_to(ROOT).as_posix(), number, text)
    for page in PAGES
    for number, text in enumerate(re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
]


_FENCED: Final = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def inline_code(program: str) -> dict[str, str]:
    """Return the commands of a program in the prose of the pages, each with a page; without variables before it."""
    pattern = re.compile(rf"`(?:\w+=\S+\s+)*({program}\s[^`]+)`")
    return {
        " ".join(command.split()): page.relative_to(ROOT).as_posix()
        for page in PAGES
        for command in pattern.findall(_FENCED.sub("", page.read_text()))
    }


def block(name: str) -> str:
    """Return the text of a block by its name."""
    return _named(name).text


def documented_commands(name: str) -> list[list[str]]:
    """Return the words of each command of `infaas` in a block, without `infaas`."""
    return _named(name).commands()


def _named(name: str) -> Block:
    return next(one for one in BLOCKS if one.name == name)


class Start(NamedTuple):
    """Command that starts a system: its variables and flags."""

    variables: dict[str, str]
    flags: list[str]


def start_of(text: str) -> Start:
    """Return the first command of a text that starts a system."""
    found = _START.search(text)
    assert found is not None, text
    variables = dict(word.split("=", 1) for word in shlex.split(found["variables"]))
    return Start(variables, shlex.split(found["flags"], comments=True))


def without_start(text: str) -> str:
    """Return a text without the lines that start a system."""
    return _START.sub("", text)


def changed(text: str, changes: Mapping[str, str]) -> str:
    """Return a text after some changes, each of which must apply."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


async def run_commands(text: str, folder: Path, environment: Mapping[str, str], changes: Mapping[str, str] = {}) -> str:
    """Run commands in a folder after some changes; return the output."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", _INFAAS + changed(text, changes), cwd=folder, env=environment,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_LIMIT_S):
            out, err = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 0, (out.decode(), err.decode())
    return out.decode()


def exported(text: str, folder: Path, changes: Mapping[str, str] = {}) -> dict[str, str]:
    """Return the variables of INFaaS that commands export."""
    commands = f"set -e\n{changed(text, changes)}\nenv -0"
    own = {name: value for name, value in os.environ.items() if not name.startswith("INFAAS_")}
    done = subprocess.run(["bash", "-c", commands], cwd=folder, env=own, check=True, capture_output=True, timeout=60)
    found = dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if "=" in line)
    return {name: value for name, value in found.items() if name.startswith("INFAAS_")}
