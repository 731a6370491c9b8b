"""Tests of the installation of a lock."""

import re
from pathlib import Path

import pytest

from tools.install_locked import entries_of, variables_of

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


def test_uv_gets_configuration_of_pip() -> None:
    listed = """:env:.cert='/etc/ours.pem'
:env:.disable-pip-version-check='1'
global.cert='/etc/all.pem'
global.extra-index-url='https://one.example/simple\\nhttps://two.example/simple'
global.index-url='https://mirror.example/simple?a=b'
install.find-links='/wheels https://wheels.example/'
"""
    assert variables_of(listed) == {
        "SSL_CERT_FILE": "/etc/ours.pem",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_DEFAULT_INDEX": "https://mirror.example/simple?a=b",
        "UV_FIND_LINKS": "/wheels,https://wheels.example/",
    }


def test_uv_gets_nothing_if_pip_has_no_configuration() -> None:
    assert variables_of("") == {}
