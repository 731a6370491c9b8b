"""One step run in a fresh process: `python -m registry.pipeline.isolation STEP RESULT`, both files of JSON.

Fresh, so that memory and load time are the variant's own; apart, so that a crash in native code, or a model that never
returns, ends the step and not the registration.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

import msgspec

from registry.pipeline.generation import GenerateVariant
from registry.pipeline.inspection import InspectModel
from registry.pipeline.measurement import MeasureVariant
from registry.pipeline.stage_outputs import ComputeOutputs
from registry.recipes import NotApplicable
from schemas.errors import InvalidRequest, ModelFailed, OperatorError

PipelineStep = InspectModel | GenerateVariant | MeasureVariant | ComputeOutputs
T = TypeVar("T")
TIMEOUT_S: Final = 900.0
_ROOT: Final = Path(__file__).parents[2]
_TAIL: Final = 2000
_ERRORS: Final = {kind.__name__: kind for kind in (InvalidRequest, OperatorError, NotApplicable, ModelFailed)}


class _Failed(msgspec.Struct, frozen=True, tag=True):
    """Why a step ended without a result."""

    error: str
    message: str


class _Done(msgspec.Struct, frozen=True, tag=True):
    """A step's result, encoded."""

    value: msgspec.Raw


async def run_step(step: PipelineStep, kind: type[T], *, timeout_s: float = TIMEOUT_S) -> T:
    """Run a step and return its result. Cancelling kills the process.

    Raises:
        InvalidRequest, OperatorError, NotApplicable: as the step raised them.
        ModelFailed: any other error of the step, a crash, or no result within `timeout_s`.
    """
    with TemporaryDirectory(prefix="infaas-step-") as name:
        folder = Path(name)
        (folder / "step").write_bytes(msgspec.json.encode(step, enc_hook=str))
        code = await _run(folder, timeout_s)
        result = folder / "result"
        if not result.exists():
            raise ModelFailed(f"{_end(code)}{_log_tail(folder / 'log')}")
        outcome = msgspec.json.decode(result.read_bytes(), type=_Done | _Failed)
    if isinstance(outcome, _Failed):
        raise _ERRORS[outcome.error](outcome.message)
    return msgspec.json.decode(outcome.value, type=kind, dec_hook=_to_path)


async def _run(folder: Path, timeout_s: float) -> int | None:
    """Run the child; returns its exit code, None if it had to be killed."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "registry.pipeline.isolation", str(folder / "step"), str(folder / "result")),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            async with asyncio.timeout(timeout_s):
                return await process.wait()
        except TimeoutError:
            return None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _end(code: int | None) -> str:
    if code is None:
        return "it did not finish in time"
    return f"it crashed ({signal.Signals(-code).name})" if code < 0 else f"it ended with exit code {code}"


def _log_tail(log: Path) -> str:
    lines = log.read_bytes()[-_TAIL:].decode(errors="replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""


def main(step: Path, result: Path) -> None:
    """Run the step, in the child, and leave its outcome, whole or not at all."""
    partial = result.with_suffix(".partial")
    partial.write_bytes(
        msgspec.json.encode(_outcome(msgspec.json.decode(step.read_bytes(), type=PipelineStep, dec_hook=_to_path)))
    )
    partial.replace(result)


def _to_path(_kind: type, text: str) -> Path:
    """Convert what JSON does not know: of a step and its result only paths."""
    return Path(text)


def _outcome(step: PipelineStep) -> _Done | _Failed:
    try:
        return _Done(msgspec.Raw(msgspec.json.encode(step.run(), enc_hook=str)))
    except (InvalidRequest, OperatorError, NotApplicable) as error:
        return _Failed(type(error).__name__, str(error))
    except OSError as error:
        return _Failed(OperatorError.__name__, f"{error.filename or 'a file'}: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - a runtime raises anything; the parent says it was the model
        return _Failed(ModelFailed.__name__, f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
