"""Checks the external links of the manual: `make docs-links`.

Sphinx requests each address once and looks for the anchor in its page. Addresses that redirect are fine. Links within
the manual are checked by `make docs-site`, and those of other pages by `tests/unit/agreement/test_docs.py`. The pages
that Sphinx has read are kept apart from those of `make docs-site`, so that both may run at once.

Exit codes: 0 all addresses exist, or no server answered at all or not in time, which is reported as "NOT DONE"; 1 an
address does not exist, or only some servers answered.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

FOUND, BROKEN = 0, 1
_OUTPUT: Final = Path("build/links")
_BUILD: Final = (
    *("-m", "sphinx", "--conf-dir", "docs/site", "--builder", "linkcheck", "--keep-going", "--quiet"),
    *("--doctree-dir", str(_OUTPUT / "doctrees"), "docs", str(_OUTPUT)),
)
_LIMIT_S: Final = 120
"""Maximum duration: servers that keep connections open without an answer must not hold up CI."""
_NO_ANSWER: Final = re.compile("Max retries exceeded|Connection aborted|Read timed out")


class CheckedLink(msgspec.Struct, frozen=True):
    """Line of Sphinx's report: one link of a page."""

    filename: str
    lineno: int
    status: str
    uri: str
    info: str = ""


def verdict(links: Sequence[CheckedLink]) -> tuple[int, list[str]]:
    """Return the exit code and the lines to print."""
    external = [link for link in links if link.status not in ("unchecked", "local", "ignored")]
    bad = [link for link in external if link.status in ("broken", "timeout")]
    if external and all(link in bad and _is_without_answer(link) for link in external):
        return FOUND, [f"NOT DONE: no server answered for any of {len(external)} links; the last: {bad[-1].info[:200]}"]
    if bad:
        return BROKEN, [f"{link.filename}:{link.lineno}: {link.uri}: {link.info[:200]}" for link in bad]
    return FOUND, [f"{len(external)} external links, all of them exist"]


def _is_without_answer(link: CheckedLink) -> bool:
    return link.status == "timeout" or _NO_ANSWER.search(link.info) is not None


def main() -> int:
    """Follow the links and print the results; returns the exit code."""
    report = _OUTPUT / "output.json"
    report.unlink(missing_ok=True)
    command = [sys.executable, *_BUILD]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        print(f"NOT DONE: the links were not followed within {_LIMIT_S} s")
        return FOUND
    if not report.is_file():
        print(done.stderr, file=sys.stderr)
        return BROKEN
    code, lines = verdict([msgspec.json.decode(line, type=CheckedLink) for line in report.read_bytes().splitlines()])
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
