"""Name of a home folder, unique across machines: `<host>-<four hex digits>`, stored in the folder.

The name is created once, so it survives restarts and changes of the host name. A copy of the folder on another machine
has the same name: remove the file `name` from the copy.
"""

import fcntl
import re
import secrets
import socket
from pathlib import Path
from typing import Final

_FILE: Final = "name"
_LONGEST_HOST: Final = 20
"""Maximum length of the host part; names of workers begin with it and should be short."""


def home_name(home: Path) -> str:
    """Return the name of a folder; create it if absent. A file lock serializes concurrent callers."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / _FILE).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if name := file.read().strip():
            return name
        name = f"{_short_host()}-{secrets.token_hex(2)}"
        file.write(f"{name}\n")
        return name


def _short_host() -> str:
    host = socket.gethostname().partition(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", host)[:_LONGEST_HOST].strip("-") or "host"
