"""The name of a data folder, unique among those of all machines: `<host>-<four hex digits>`, kept in the folder.

It is made once, so it stays the same when the process restarts or the host gets another name. A folder that is copied
to another machine takes its name along: remove the file `name` from the copy.
"""

import os
import re
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

_FILE: Final = "name"
_LONGEST_HOST: Final = 20
"""Letters of the host's name that stay: names of workers begin with it, and should be short."""


def home_name(home: Path) -> str:
    """Read the name of a folder, or make one."""
    file = home / _FILE
    home.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        return file.read_text().strip()
    partial = home / f".{_FILE}-{secrets.token_hex(8)}"
    partial.write_text(f"{_short_host()}-{secrets.token_hex(2)}\n")
    try:
        os.link(partial, file)  # whole or not at all, and only one of those who try at once
    except FileExistsError:
        pass
    finally:
        partial.unlink()
    return file.read_text().strip()


def _short_host() -> str:
    host = socket.gethostname().partition(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", host)[:_LONGEST_HOST].strip("-") or "host"
