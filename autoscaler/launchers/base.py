"""Interface of launchers, which start, stop and list workers, and the configured size of a cluster's workers.

A worker is identified by its name, `<hardware>-<n>`, and a name has at most one process. Starting a running worker and
stopping an absent one change nothing. So repeated calls are harmless, be it by two autoscalers or by one that was
killed and does not know how far it came.

A launcher owns the workers that it starts. `running` lists all of them, no matter which autoscaler asked for them, so
the next leader takes them over. A worker registers itself in Postgres when it is up; the launcher only starts its
process.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsError

from autoscaler.decide.snapshot import HardwareType
from autoscaler.launchers.launched_worker import LaunchedWorker
from process.subprocesses import DRAIN_S
from schemas.defaults import THREADS, WORKER_START_S
from schemas.errors import InfaasError, OperatorError
from schemas.hardware import Hardware, list_price, slots_of


class LauncherError(InfaasError):
    """A launcher call failed for the reason in the message. It may succeed later."""


class Launcher(Protocol):
    """Starts and stops workers. Each call has its own deadline and raises only `LauncherError`."""

    @property
    def hardware(self) -> Mapping[str, HardwareType]:
        """Types of workers that it can start, by name."""
        ...

    async def running(self) -> list[LaunchedWorker]:
        """List all workers that it has started and that have not ended, failed ones included."""
        ...

    async def start(self, hardware: str, worker: str) -> None:
        """Start a worker's process, without waiting until it is up."""
        ...

    async def stop(self, worker: str) -> None:
        """Begin the graceful stop of a worker, without waiting for its end."""
        ...


_Settings = TypeVar("_Settings", bound=BaseSettings)
_OURS: Final = "INFAAS_"
_OF_TRACES: Final = "OTEL_"
_OF_OTHERS: Final = tuple(
    f"{_OURS}{name}"
    for name in ("AUTOSCALER_", "GATEWAY_", "JOBS_", "KEY", "REGISTRAR_", "SELECTOR_", "SIGNING_", "WEBHOOK")
)
"""Prefixes of variables that workers must not get: settings of other services, among them secrets."""


class WorkerTemplate(BaseModel):
    """Template of the workers of one hardware type: their maximum number, and the resources of each.

    The size of workers cannot be detected on other machines. A launcher's settings hold a JSON object of templates by
    hardware type, for example `{"cpu": {"maximum": 8, "cores": 4, "memory_bytes": 8000000000}}`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    maximum: int = Field(ge=0)
    """Maximum number of workers at a time."""
    cores: int = Field(default=1, ge=1)
    """CPU cores of a worker; on an accelerator they feed it."""
    threads: int = Field(default=THREADS, ge=1)
    """Cores of a slot."""
    memory_bytes: int = Field(ge=1)
    """Memory that the worker's process may use."""
    price_per_hour: float | None = Field(default=None, ge=0)
    """Price of one worker in USD; by default the list price of the hardware."""
    start_s: float = Field(default=WORKER_START_S, ge=0)
    """Seconds from the wish for a worker until it can load its first instance."""
    runtimes: tuple[str, ...] = ()
    """Runtimes of the worker; empty: known once one has started."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.threads > self.cores:
            raise ValueError(
                f"threads {self.threads} is more than cores {self.cores}, so the worker would have no slot"
            )
        return self

    def hardware_type(self, hardware: Hardware, *, stops_highest: bool = False) -> HardwareType:
        """Return the hardware type for decisions."""
        slots = slots_of(hardware, self.cores, self.threads)
        price = list_price(hardware, self.cores) if self.price_per_hour is None else self.price_per_hour
        return HardwareType(
            name=hardware.value, price_per_hour=price, start_s=self.start_s, slots=slots, threads=self.threads,
            memory_bytes=self.memory_bytes, maximum=self.maximum, runtimes=self.runtimes, stops_highest=stops_highest,
        )  # fmt: skip


def worker_environment(hardware: Hardware, worker: str, template: WorkerTemplate, home: Path) -> Mapping[str, str]:
    """Return the environment of `python -m workers` on another machine.

    It is the autoscaler's own environment, so that the worker finds the same Kafka, Postgres, artifacts and receiver of
    traces, without the variables of other services.
    """
    shared = {k: v for k, v in os.environ.items() if k.startswith((_OURS, _OF_TRACES)) and not k.startswith(_OF_OTHERS)}
    own = {
        "INFAAS_DRAIN_TIMEOUT_S": f"{DRAIN_S:g}",
        "INFAAS_HOME": str(home),
        "INFAAS_WORKERS_NAME": worker,
        "INFAAS_WORKERS_HARDWARE": hardware.value,
        "INFAAS_WORKERS_CORES": str(template.cores),
        "INFAAS_WORKERS_THREADS": str(template.threads),
        "INFAAS_WORKERS_MEMORY_BYTES": str(template.memory_bytes),
        "INFAAS_WORKERS_METRICS_PORT": "0",  # off, because several workers may share a machine
    }
    if template.price_per_hour is not None:
        own["INFAAS_WORKERS_PRICE_PER_HOUR"] = str(template.price_per_hour)
    return shared | own


def read_settings(kind: type[_Settings]) -> _Settings:
    """Read a launcher's settings from the environment.

    Raises:
        OperatorError: a setting is missing or wrong; the message names it.
    """
    prefix = kind.model_config.get("env_prefix", "")
    try:
        return kind()
    except ValidationError as error:
        problems = [f"{prefix}{'.'.join(map(str, p['loc']))}".upper() + f": {p['msg']}" for p in error.errors()]
        raise OperatorError("; ".join(problems)) from None
    except SettingsError as error:  # invalid JSON
        raise OperatorError(f"{prefix}*: {error}") from None
