"""Installs the packages of a lock with uv: `install_locked.py [--compile] [--into PYTHON] [--besides LOCK] LOCK`.

uv takes a tenth of pip's time. pip installs uv itself, and pip's configuration (index, certificates, proxy) applies to
uv as well. Modules are compiled when they are first imported, except with `--compile`: sandboxed processes cannot write
compiled modules, so each of them would compile its own again. `--into` names another environment than that of this
Python, and `--besides` a lock whose packages that environment sees without having them.
"""

import argparse
import ast
import os
import subprocess
import sys
import sysconfig
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

_PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check")
_UV_LOCK: Final = Path(__file__).parent / "locks" / "dev.txt"
_VARIABLES: Final = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
"""Variable of uv for each option of pip."""


def main() -> int:
    """Install the packages; return the exit code of pip or uv."""
    parser = argparse.ArgumentParser()
    parser.add_argument("lock", type=Path)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--into", default=sys.executable)
    parser.add_argument("--besides", type=Path)
    options = parser.parse_args()
    uv = Path(sysconfig.get_path("scripts"), "uv")
    if not uv.exists() and (code := _install_uv()):
        return code
    listed = subprocess.run((*_PIP, "config", "list"), stdout=subprocess.PIPE, text=True, check=True).stdout
    seen = entries_of(options.besides.read_text()) if options.besides else []
    wanted = [entry for entry in entries_of(options.lock.read_text()) if entry not in seen]
    with _requirements(wanted) as file:
        command = [
            *(str(uv), "pip", "install", "--python", options.into, "--require-hashes", "--no-deps"),
            *("--index-strategy", "unsafe-best-match"),  # as pip does: hashes tell which file is meant
            *(["--compile-bytecode"] if options.compile else []),
            *([] if sys.stderr.isatty() else ["--quiet"]),
            *("--requirement", str(file)),
        ]
        return subprocess.run(command, env=variables_of(listed) | os.environ, check=False).returncode


def variables_of(listed: str) -> dict[str, str]:
    """Return the variables of uv that say the same as pip's options, as `pip config list` prints them."""
    found: dict[str, str] = {}
    # Variables of the environment take precedence over files.
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        option, _, value = line.partition("=")
        variable = _VARIABLES.get(option.rpartition(".")[2])
        if variable is not None:
            separator = "," if variable == "UV_FIND_LINKS" else " "
            found[variable] = separator.join(str(ast.literal_eval(value)).split())
    return found


def _install_uv() -> int:
    wanted = [entry for entry in entries_of(_UV_LOCK.read_text()) if entry.startswith("uv==")]
    with _requirements(wanted) as file:
        words = ("install", "--quiet", "--require-hashes", "--no-deps", "--requirement", str(file))
        return subprocess.run((*_PIP, *words), check=False).returncode


@contextmanager
def _requirements(entries: Iterable[str]) -> Generator[Path]:
    with TemporaryDirectory(prefix="infaas-install-") as folder:
        file = Path(folder, "requirements.txt")
        file.write_text("".join(entries))
        yield file


def entries_of(lock: str) -> list[str]:
    """Return the requirements of a lock, each with the lines of its hashes."""
    found: list[str] = []
    for line in lock.splitlines(keepends=True):
        if line[:1].isspace() and found:
            found[-1] += line
        elif line.strip() and not line.startswith("#"):
            found.append(line)
    return found


if __name__ == "__main__":
    sys.exit(main())
