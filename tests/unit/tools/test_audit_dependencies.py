"""Tests of the dependency audit: an audit that was not done differs from a clean one."""

import json

import pytest

from tools.audit_dependencies import CLEAN, NOT_DONE, VULNERABLE, verdict

GOOD = {"name": "good", "version": "1", "vulns": []}
FLAW = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1"], "description": ""}
BAD = {"name": "bad", "version": "2", "vulns": [FLAW]}
UNKNOWN = {"name": "ours", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("dependencies", "code", "words"),
    [
        ([GOOD], CLEAN, "1 packages, no known"),
        ([GOOD, BAD], VULNERABLE, "bad 2: PYSEC-1 CVE-1, fixed in 2.1"),
        ([GOOD, UNKNOWN], NOT_DONE, "NOT DONE: the database knows nothing of 1 of 2 packages: not found"),
        ([BAD, UNKNOWN], VULNERABLE, "bad 2"),
    ],
)
def test_verdict_covers_vulnerable_and_unknown_packages(dependencies: list[object], code: int, words: str) -> None:
    found, lines = verdict(json.dumps({"dependencies": dependencies, "fixes": []}), "")
    assert (found, len(lines)) == (code, 1)
    assert words in lines[0]


@pytest.mark.parametrize("report", ["", "{}", "[]", "not JSON", '{"dependencies": 1}'])
def test_verdict_without_report_is_not_done(report: str) -> None:
    code, lines = verdict(report, "a traceback\nConnectionError: no route to pypi.org\n")
    assert (code, lines) == (
        NOT_DONE,
        ["NOT DONE: the database of vulnerabilities could not be asked: ConnectionError: no route to pypi.org"],
    )
