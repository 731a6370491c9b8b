"""The name of a data folder, unique among those of all machines: `<host>-<four hex digits>`, kept in the folder.

It is made once, so it stays the same when the process restarts or the host gets another name. A folder that is copied
to another machine takes its name along: remove the file `name` from the copy.
"""

import fcntl
import re
import secrets
import socket
from pathlib import Path
from typing import Final

_FILE: Final = "name"
_LONGEST_HOST: Final = 20
"""Letters of the host's name that stay: names of workers begin with it, and should be short."""


def home_name(home: Path) -> str:
    """Read the name of a folder, or make one; blocks for a moment where several do so at once."""
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
