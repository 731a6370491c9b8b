"""A build as it travels: what is to be done, who does it, and how it ended."""

import hashlib
from typing import Any, Self, TypeVar

import msgspec

from registry.pipeline.isolation import STEP_ERRORS, to_path
from registry.step_runner import HardwareStep
from schemas.errors import OperatorError

T = TypeVar("T")


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """A step that a worker is to do, with its files by their SHA-256: the same step is the same build."""

    step: HardwareStep
    run: str = ""
    """What tells it from the same step of another registration, where it must be done once more."""

    @property
    def id(self) -> str:
        """Hash of what is to be done."""
        return hashlib.sha256(msgspec.json.encode(self, enc_hook=str)).hexdigest()

    @classmethod
    def decoded(cls, value: object) -> Self:
        """The build from JSON that was decoded to plain values; raises `msgspec.ValidationError`."""
        return msgspec.convert(value, cls, dec_hook=to_path)


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Word that a build is wanted (JSON, in `infaas.builds.<hardware>`; key = its id)."""

    id: str
    build: dict[str, Any]
    """The build, as JSON has it."""
    asked_ms: int
    """When, by the database's clock, ms since the epoch: what is older than another request for it changes nothing."""

    @classmethod
    def of(cls, build: Build, asked_ms: int) -> Self:
        """The request for a build."""
        return cls(id=build.id, build=msgspec.to_builtins(build, enc_hook=str), asked_ms=asked_ms)


class BuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's word that it has begun or ended a build, for whoever waits for it (JSON)."""

    build: str
    worker: str
    ended: bool = False


class BuildOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a build ended."""

    value: Any = None
    """The step's result, as JSON has it."""
    error: str = ""
    """Name of the error that it raised instead; empty if it raised none."""
    message: str = ""
    files: dict[str, str] = {}
    """SHA-256 of each file that it wrote, by the name that the build gives it."""

    @classmethod
    def of_error(cls, error: Exception) -> Self:
        """The outcome of a step that raised what steps may raise."""
        name = next(name for name, kind in STEP_ERRORS.items() if isinstance(error, kind))
        return cls(error=name, message=str(error))

    def result(self, kind: type[T], worker: str) -> T:
        """The step's result; raises what it raised. What is wrong with its surroundings is so with the `worker`'s."""
        if self.error:
            error = STEP_ERRORS.get(self.error, OperatorError)
            raise error(f"{worker}: {self.message}" if error is OperatorError else self.message)
        return msgspec.convert(self.value, kind, dec_hook=to_path)
