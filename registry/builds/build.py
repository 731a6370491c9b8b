"""Messages of a build: its request, the reports of a worker, and its outcome."""

import hashlib
from typing import Any, Self, TypeVar

import msgspec

from registry.pipeline.isolation import STEP_ERRORS, to_path
from registry.step_runner import HardwareStep
from schemas.errors import OperatorError

T = TypeVar("T")


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """A step for a worker, with its files named by their SHA-256: equal steps are the same build."""

    step: HardwareStep
    run: str = ""
    """Distinguishes it from the same step of another registration, if the step must be repeated."""

    @property
    def id(self) -> str:
        """SHA-256 of the build's content."""
        return hashlib.sha256(msgspec.json.encode(self, enc_hook=str)).hexdigest()

    @classmethod
    def decoded(cls, value: object) -> Self:
        """Return the build from decoded JSON; raises `msgspec.ValidationError`."""
        return msgspec.convert(value, cls, dec_hook=to_path)


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for a build (JSON, in `infaas.builds.<hardware>`; key = its id)."""

    id: str
    build: dict[str, Any]
    """The build, as plain JSON values."""
    asked_ms: int
    """Time of the request in ms since the epoch, by the database's clock; a request older than another for the same
    build is ignored."""

    @classmethod
    def of(cls, build: Build, asked_ms: int) -> Self:
        """Return the request for a build."""
        return cls(id=build.id, build=msgspec.to_builtins(build, enc_hook=str), asked_ms=asked_ms)


class BuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """Report of a worker that it has begun or ended a build (JSON)."""

    build: str
    worker: str
    ended: bool = False


class BuildOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Outcome of a build."""

    value: Any = None
    """Result of the step, as plain JSON values."""
    error: str = ""
    """Name of the error that the step raised; empty if there was none."""
    message: str = ""
    files: dict[str, str] = {}
    """SHA-256 of each file that the step wrote, by its name in the build."""

    @classmethod
    def of_error(cls, error: Exception) -> Self:
        """Return the outcome of a step that raised one of the errors allowed for steps."""
        name = next(name for name, kind in STEP_ERRORS.items() if isinstance(error, kind))
        return cls(error=name, message=str(error))

    def result(self, kind: type[T], worker: str) -> T:
        """Return the step's result, or raise its error. An `OperatorError` names the `worker`, on which it occurred."""
        if self.error:
            error = STEP_ERRORS.get(self.error, OperatorError)
            raise error(f"{worker}: {self.message}" if error is OperatorError else self.message)
        return msgspec.convert(self.value, kind, dec_hook=to_path)
