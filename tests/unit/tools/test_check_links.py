"""Tests of the check of external links: one without a network differs from one with broken links."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tools.check_links import BROKEN, FOUND, CheckedLink, main, verdict

AWAY = "HTTPSConnectionPool(host='a.org', port=443): Max retries exceeded with url: / (Failed to resolve 'a.org')"


def a_link(status: str, info: str = "", uri: str = "https://a.org") -> CheckedLink:
    return CheckedLink("page.md", 7, status, uri, info)


@pytest.mark.parametrize(
    ("links", "code", "words"),
    [
        ([a_link("working"), a_link("redirected"), a_link("unchecked", uri="#anchor")], FOUND, "2 external links, all"),
        ([a_link("broken", AWAY), a_link("timeout"), a_link("ignored")], FOUND, "NOT DONE: no server answered for any"),
        ([a_link("working"), a_link("broken", AWAY)], BROKEN, "page.md:7: https://a.org: HTTPSConnectionPool"),
        ([a_link("broken", "404 Client Error: Not Found for url")], BROKEN, "404 Client Error"),
        ([a_link("broken", AWAY), a_link("broken", "Anchor 'b' not found")], BROKEN, "Max retries"),
        ([], FOUND, "0 external links"),
    ],
)
def test_verdict_tells_broken_links_from_no_network(links: list[CheckedLink], code: int, words: str) -> None:
    found, lines = verdict(links)
    assert found == code
    assert words in lines[0]


def test_check_that_takes_too_long_is_not_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def hang(command: list[str], *, timeout: float, **_options: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", hang)
    assert main() == FOUND
    assert capsys.readouterr().out == "NOT DONE: the links were not followed within 120 s\n"
