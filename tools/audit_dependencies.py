"""Audits the packages of lock files for known vulnerabilities: `python tools/audit_dependencies.py tools/locks/*.txt`.

The vulnerability database is queried over the network. If it cannot be reached, the result is "not done", which is
neither clean nor vulnerable.

Exit codes: 0 no known vulnerability, 1 a known vulnerability, 2 the audit was not done.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

CLEAN, VULNERABLE, NOT_DONE = 0, 1, 2
_LIMIT_S: Final = 240
_LOOK: Final = (
    *("-m", "pip_audit", "--require-hashes", "--disable-pip", "--format=json", "--aliases=on"),
    *("--progress-spinner=off", "--timeout=10"),
)


def verdict(report: str, complaint: str) -> tuple[int, list[str]]:
    """Return the exit code and the lines to print for a run of pip-audit, from its report and its stderr."""
    try:
        found: dict[str, Any] = msgspec.json.decode(report.encode(), type=dict[str, Any])
        lines = sorted(set(_vulnerabilities(found["dependencies"])))
        passed_over = [one for one in found["dependencies"] if "skip_reason" in one]
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError):
        last = complaint.strip().splitlines()[-1:] or ["it printed nothing"]
        return NOT_DONE, [f"NOT DONE: the database of vulnerabilities could not be asked: {last[0][:300]}"]
    if lines:
        return VULNERABLE, lines
    if passed_over:
        count = f"{len(passed_over)} of {len(found['dependencies'])} packages"
        return NOT_DONE, [f"NOT DONE: the database knows nothing of {count}: {passed_over[0]['skip_reason']}"]
    return CLEAN, [f"{len(found['dependencies'])} packages, no known vulnerability"]


def _vulnerabilities(dependencies: Sequence[dict[str, Any]]) -> Iterator[str]:
    for one in dependencies:
        for flaw in one.get("vulns", ()):
            fixed = ", ".join(flaw["fix_versions"]) or "nothing yet"
            yield f"{one['name']} {one['version']}: {flaw['id']} {' '.join(flaw.get('aliases', ()))}, fixed in {fixed}"


def main(locks: Sequence[str]) -> int:
    """Audit each lock file and print the results; returns the exit code."""
    codes: set[int] = set()
    for lock in locks:
        try:
            done = subprocess.run(
                [sys.executable, *_LOOK, "-r", lock], capture_output=True, text=True, timeout=_LIMIT_S, check=False
            )
            code, lines = verdict(done.stdout, done.stderr)
        except subprocess.TimeoutExpired:
            code, lines = NOT_DONE, [f"NOT DONE: the database did not answer within {_LIMIT_S} s"]
        codes.add(code)
        print("\n".join(f"{lock}: {line}" for line in lines))
        if code == NOT_DONE:  # the next request would fail, too
            break
    return next((code for code in (VULNERABLE, NOT_DONE) if code in codes), CLEAN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
