"""Settings of a worker: `INFAAS_WORKERS_*`, or flags of the same names."""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from process.cpus import usable_cores, usable_cpus
from process.memory import total_memory
from process.settings import ArtifactUserSettings
from registry.pipeline.step_process import TIMEOUT_S
from runtimes.device import device_memory
from schemas.defaults import LEASE_TTL_S, THREADS
from schemas.errors import OperatorError
from schemas.hardware import Hardware, list_price, slots_of
from schemas.names import is_name, worker_name


def _cores(fields: dict[str, Any]) -> int:
    return len(fields.get("cpus", ())) or usable_cores()


def _memory_bytes(fields: dict[str, Any]) -> int:
    hardware = fields.get("hardware", Hardware.CPU)
    return total_memory() if hardware == Hardware.CPU else device_memory(hardware, fields.get("device") or 0)


class WorkerSettings(ArtifactUserSettings):
    """Settings of one worker: its device, its limits, and its behaviour."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_WORKERS_", frozen=True, extra="ignore")

    name: str = ""
    """Name that is unique among workers and the same after a restart; default `<hardware>-<host>-<number>`, with the
    first number that no running worker of this home has."""
    hardware: Hardware = Hardware.CPU
    """Type of the device that the worker owns."""
    device: int | None = Field(default=None, ge=0)
    """Number of the accelerator that the worker owns among those of the machine; default: the first one that the
    environment leaves visible."""
    cpus: tuple[int, ...] = ()
    """Numbers of the CPU cores that the worker computes on, e.g. `[0,1]`; default: any, chosen by the kernel."""
    cores: int = Field(default_factory=_cores, ge=1)
    """Number of CPU cores that the worker may compute on; default: the number of `cpus`, or else all usable cores."""
    threads: int = Field(default=THREADS, ge=1)
    """Number of cores per slot; the worker has `cores // threads` slots. A batch takes enough slots for the number of
    cores that its variant was measured on."""
    memory_bytes: int = Field(default_factory=_memory_bytes, ge=1)
    """Bytes of the device's memory that the worker may use (for a CPU, of the machine's memory); a variant that would
    exceed them is not loaded. Default: all."""
    price_per_hour: float | None = Field(default=None, ge=0)
    """Price of the worker in USD per hour; default: the list price of the hardware."""

    lease_ttl_s: float = Field(default=LEASE_TTL_S, gt=0)
    """Seconds without a heartbeat after which the worker's partitions are free."""
    lease_renew_s: float = Field(default=1.0, gt=0)
    """Seconds between two heartbeats, which renew all leases of the worker."""
    handover_timeout_s: float = Field(default=60.0, gt=0)
    """Most seconds for which the worker keeps serving a partition while its next owner is not ready to take it."""
    status_interval_s: float = Field(default=0.1, gt=0)
    """Seconds between two status records while queries come and go; selectors learn the worker's backlog from them."""
    status_idle_interval_s: float = Field(default=1.0, gt=0)
    """Seconds between two status records while nothing changes. Each record announces when the next one is due,
    and is valid for three times as long."""
    prefetch_s: float = Field(default=1.0, gt=0)
    """Seconds of predicted work that an instance prefetches; within it, deadlines decide the order."""
    prefetch_max: int = Field(default=1000, ge=1)
    """Most queries that an instance prefetches."""
    max_crashes: int = Field(default=3, ge=1)
    """Number of crashes after which the query being computed is given up."""
    compute_limit_s: float = Field(default=10.0, gt=0)
    """Seconds that any batch may take before it counts as one that never ends: its query fails, and the worker is
    replaced. Increase it if a runtime compiles while it serves, as TensorRT does for new input shapes."""
    compute_limit_factor: float = Field(default=20.0, gt=1)
    """Multiple of its predicted time that a batch may take, if that is more than `compute_limit_s`."""
    drift_window_s: float = Field(default=60.0, ge=0)
    """Least seconds of a window of undisturbed batches; if ten windows in a row differ alike from the profile,
    predictions are corrected."""
    replace_timeout_s: float = Field(default=45.0, ge=0)
    """Most seconds for which a worker to be replaced keeps serving, in spare slots, until other workers have taken
    over."""
    replace_drain_s: float = Field(default=2.0, gt=0)
    """Seconds for which it then finishes queries."""
    load_attempts: int = Field(default=3, ge=1)
    """Attempts to load a model before it counts as failed. Then another worker tries it. This one does not retry a
    model that raises until it is registered again or the worker restarts. Lack of memory, and problems that an operator
    can fix, may pass: those loads are retried with growing pauses."""
    load_retry_max_s: float = Field(default=60.0, gt=0)
    """Longest pause in seconds before a failed load is retried."""
    failed_answer_s: float = Field(default=5.0, ge=0)
    """Seconds for which the waiting queries of a failed model are left to another worker; if none has taken them by
    then, they are answered with the reason."""

    builds: bool = True
    """Do steps of registrations beside serving: make and measure variants for the worker's hardware."""
    build_timeout_s: float = Field(default=TIMEOUT_S, gt=0)
    """Most seconds that such a step may take."""
    build_memory_bytes: int = Field(default=0, ge=0)
    """Most bytes of memory that its process may take; 0: nine tenths of the memory that is free when it begins."""
    build_patience_s: float = Field(default=60.0, ge=0)
    """Most seconds for which a measurement waits until no query is expected; its noise is reported."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not is_name(self.worker):
            raise OperatorError(f"--name {self.name!r}: use a-z, 0-9 and '-', at most 63 characters")
        absent = sorted(set(self.cpus).difference(usable_cpus()))
        if absent:
            raise OperatorError(f"--cpus {','.join(map(str, self.cpus))}: this process may not use CPUs {absent}")
        if self.threads > self.cores:
            raise OperatorError(f"--threads {self.threads} is more than --cores {self.cores}")
        if self.lease_renew_s * 2 > self.lease_ttl_s:
            raise OperatorError("--lease-ttl-s must be at least twice --lease-renew-s, or leases expire by mistake")
        return self

    @property
    def worker(self) -> str:
        """Name of the worker, given or by default."""
        return self.name or worker_name(self.hardware, 0)

    @property
    def slots(self) -> int:
        """Number of batches that can compute at once if each takes one slot."""
        return slots_of(self.hardware, self.cores, self.threads)

    @property
    def price(self) -> float:
        """Price of the whole worker in USD per hour."""
        if self.price_per_hour is not None:
            return self.price_per_hour
        return list_price(self.hardware, self.cores)

    @property
    def journal_file(self) -> Path:
        """File of the crash journal; it must survive a restart of the process."""
        return self.home / "workers" / f"{self.worker}.journal"
