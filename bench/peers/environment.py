"""Environments of the peers: one each, in a cache, installed from its lock file at the first use."""

import sys
from pathlib import Path
from typing import Final

from bench.core.programs import run_program
from bench.peers.servers.protocol import Peer
from schemas.errors import OperatorError

LOCKS: Final = Path(__file__).parents[2] / "locks" / "peers"
_INSTALL_S: Final = 600.0
_UV: Final = (sys.executable, "-m", "uv")


async def environment(peer: Peer, cache: Path) -> Path:
    """Install a peer if its environment is missing or its lock file has changed. Returns its interpreter.

    A peer without requirements runs in our own environment.

    Raises:
        OperatorError: the packages cannot be installed.
    """
    if not peer.requirements:
        return Path(sys.executable)
    folder, lock = cache / peer.name, (LOCKS / f"{peer.name}.txt")
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == lock.read_text():
        return python
    await _run(*_UV, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
    await _run(*_UV, "pip", "install", "--quiet", "--require-hashes", "--python", str(python), "-r", str(lock))
    stamp.write_text(lock.read_text())
    return python


async def lock_environment(peer: Peer) -> None:
    """Resolve a peer's requirements, and write its lock file.

    Raises:
        OperatorError: the index lacks such packages.
    """
    LOCKS.mkdir(parents=True, exist_ok=True)
    wanted = LOCKS / f"{peer.name}.in"
    wanted.write_text("".join(f"{requirement}\n" for requirement in (*peer.requirements, "onnxruntime==1.32.0")))
    flags = ("--quiet", "--generate-hashes", "--python-version", "3.11", "--no-emit-index-url", "--no-annotate")
    try:
        await _run(*_UV, "pip", "compile", *flags, "--no-header", "-o", str(LOCKS / f"{peer.name}.txt"), str(wanted))
    finally:
        wanted.unlink()


async def _run(*command: str) -> None:
    ended = await run_program(*command, timeout_s=_INSTALL_S)
    if ended.code:
        raise OperatorError(f"`{' '.join(command[2:])}` failed: {ended.errors.decode()[-2000:]}")
