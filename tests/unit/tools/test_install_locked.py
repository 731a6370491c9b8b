"""Tests of the parallel installation of a lock."""

import re
from pathlib import Path

import pytest

from tools.install_locked import entries_of

LOCKS = Path(__file__).parents[3] / "tools" / "locks"


@pytest.mark.parametrize("lock", sorted(path.name for path in LOCKS.glob("*.txt")))
def test_entries_of_lock_keep_their_hashes(lock: str) -> None:
    text = (LOCKS / lock).read_text()
    entries = entries_of(text)
    assert "".join(entries) == text
    assert all(re.match(r"[\w.-]+==[^\n]+ \\\n    --hash=sha256:", entry) for entry in entries)


def test_entries_of_lock_leave_out_comments() -> None:
    assert entries_of("# by uv\n\na==1 \\\n    --hash=sha256:0\nb==2 \\\n    --hash=sha256:1\n") == [
        "a==1 \\\n    --hash=sha256:0\n",
        "b==2 \\\n    --hash=sha256:1\n",
    ]
