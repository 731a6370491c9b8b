"""Programs that a bench runs to their end."""

import asyncio
from typing import NamedTuple


class EndedProgram(NamedTuple):
    """Program that has ended."""

    code: int
    output: bytes
    errors: bytes


async def run_program(*command: str, timeout_s: float) -> EndedProgram:
    """Run a program; it is killed when this call ends early or after `timeout_s`.

    Raises:
        FileNotFoundError: there is no such program.
        TimeoutError: it took too long.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return EndedProgram(process.returncode or 0, output, errors)
