"""Catalogue files: the variants and the hardware of a simulation, in JSON.

`docs/catalogue.md` documents the format. A catalogue holds the input of the production code's decisions and nothing
else, so it converts to the structs that selectors and autoscalers read: rows of the catalog, and hardware types.

Rules:
* A catalogue that was read is consistent: names are unique, hardware is known, and each variant has latencies.
* A file is written with one line a variant, so that a changed figure is one changed line.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec.structs import replace

from autoscaler.decide.snapshot import HardwareType
from schemas.errors import OperatorError
from schemas.latency import BatchLatency, fit_latency
from schemas.names import is_name, is_variant_name
from schemas.rows.catalog import AccuracySource, Profile, Variant, VariantState

VERSION: Final = 1
SHIPPED: Final = Path(__file__).parent / "catalogues"
"""Folder of the catalogues that have a name."""

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Source = Annotated[str, msgspec.Meta(min_length=1)]


class CatalogueVariant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Variant with its profile."""

    name: str
    """`architecture.runtime-precision.hardware`, as in the registry."""
    task: str
    architecture: str
    hardware: str
    runtime: str = ""
    precision: str = ""
    max_batch: Count
    accuracy: Share
    """Quality by the measure of the task, 0..1."""
    load_s: Seconds
    memory_bytes: Count
    """Memory of an instance that computes its largest batch."""
    threads: Count = 1
    """Cores that compute a batch; 1 on an accelerator."""
    latency: tuple[BatchLatency, ...]
    """Latency by batch size, in ascending order of the sizes."""
    source: Source
    """Origin of each figure."""


class CatalogueHardware(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Type of worker. The name `cpu` stands for cores; each other name stands for a type of accelerator."""

    name: str
    price_per_hour: Annotated[float, msgspec.Meta(ge=0)]
    """Price of one worker in USD."""
    memory_bytes: Count
    slots: Count
    """Batches that a worker computes at a time."""
    threads: Count = 1
    """Cores of a slot."""
    start_s: Seconds
    """Seconds from the wish for a worker until it can load its first instance."""
    maximum: Annotated[int, msgspec.Meta(ge=0)]
    """Maximum number of workers."""
    runtimes: tuple[str, ...] = ()
    """Runtimes of a worker; empty allows any."""
    source: Source
    """Origin of each figure."""


class Catalogue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Variants and hardware of a simulation."""

    version: int = VERSION
    """Version of the file format."""
    hardware: tuple[CatalogueHardware, ...]
    variants: tuple[CatalogueVariant, ...]

    def rows(self) -> tuple[dict[str, Variant], dict[str, Profile]]:
        """Return the rows of the catalog by variant: ready variants, and profiles with declared accuracy."""
        return {v.name: _row(v) for v in self.variants}, {v.name: _profile(v) for v in self.variants}

    def hardware_types(self) -> tuple[HardwareType, ...]:
        """Return the types of workers that a launcher could start."""
        return tuple(
            HardwareType(
                name=h.name, price_per_hour=h.price_per_hour, start_s=h.start_s, slots=h.slots, threads=h.threads,
                memory_bytes=h.memory_bytes, maximum=h.maximum, runtimes=h.runtimes,
            )
            for h in self.hardware
        )  # fmt: skip

    def of_hardware(self, names: Collection[str]) -> "Catalogue":
        """Return the part with these types of hardware and their variants."""
        return replace(
            self,
            hardware=tuple(one for one in self.hardware if one.name in names),
            variants=tuple(one for one in self.variants if one.hardware in names),
        )

    def bounded(self, maximum: Mapping[str, int]) -> "Catalogue":
        """Return the catalogue with other maximum numbers of workers for some types of hardware."""
        hardware = (replace(one, maximum=maximum.get(one.name, one.maximum)) for one in self.hardware)
        return replace(self, hardware=tuple(hardware))

    def starting(self, start_s: Mapping[str, float]) -> "Catalogue":
        """Return the catalogue with other start times of workers, in seconds, for some types of hardware."""
        hardware = (replace(one, start_s=start_s.get(one.name, one.start_s)) for one in self.hardware)
        return replace(self, hardware=tuple(hardware))


def shipped_names() -> list[str]:
    """Return the names of the catalogues that are part of the package."""
    return sorted(file.stem for file in SHIPPED.glob("*.json"))


def read_catalogue(path_or_name: str | Path) -> Catalogue:
    """Read a catalogue: a file, or the name of a catalogue that is part of the package.

    Raises:
        OperatorError: there is no such catalogue, or it is inconsistent; the message names the fault.
    """
    path = Path(path_or_name)
    if str(path_or_name) in shipped_names():
        path = SHIPPED / f"{path_or_name}.json"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Catalogue)
    except OSError as error:
        names = ", ".join(shipped_names()) or "none"
        raise OperatorError(
            f"cannot read catalogue {path}: {error.strerror}; catalogues with a name: {names}"
        ) from error
    except msgspec.MsgspecError as error:
        raise OperatorError(f"{path} is not a catalogue: {error}") from error
    if fault := next(_faults(found), None):
        raise OperatorError(f"catalogue {path}: {fault}")
    return found


def format_catalogue(catalogue: Catalogue) -> str:
    """Return the text of a catalogue file."""
    hardware, variants = _lines(catalogue.hardware), _lines(catalogue.variants)
    return f'{{"version": {catalogue.version},\n"hardware": [\n{hardware}\n],\n"variants": [\n{variants}\n]}}\n'


def write_catalogue(catalogue: Catalogue, path: Path) -> None:
    """Write a catalogue file; raises OSError."""
    path.write_text(format_catalogue(catalogue), encoding="utf-8")


def _lines(structs: Iterable[msgspec.Struct]) -> str:
    return ",\n".join(msgspec.json.encode(one).decode() for one in structs)


# -- consistency -------------------------------------------------------------------------------------------------------


def _faults(catalogue: Catalogue) -> Iterator[str]:
    """Yield the faults that the types of the fields do not exclude."""
    if catalogue.version != VERSION:
        yield f"its version is {catalogue.version}; this program reads version {VERSION}"
    hardware = [h.name for h in catalogue.hardware]
    for kind, names in (("hardware", hardware), ("variant", [v.name for v in catalogue.variants])):
        for name, count in Counter(names).items():
            if count > 1:
                yield f"{kind} {name} is there {count} times"
    for name in hardware:
        if not is_name(name):
            yield f"hardware {name!r} is not a valid name: use a-z, 0-9 and '-'"
    tasks: dict[str, str] = {}
    for variant in catalogue.variants:
        yield from _faults_of(variant, hardware)
        if (task := tasks.setdefault(variant.architecture, variant.task)) != variant.task:
            yield f"architecture {variant.architecture} belongs to the tasks {task} and {variant.task}"


def _faults_of(variant: CatalogueVariant, hardware: Sequence[str]) -> Iterator[str]:
    name, batches = variant.name, [point.batch for point in variant.latency]
    if not is_variant_name(name) or not is_name(variant.task) or not is_name(variant.architecture):
        yield f"variant {name!r}: names of variants are architecture.runtime-precision.hardware, of a-z, 0-9 and '-'"
    if variant.hardware not in hardware:
        yield f"variant {name}: unknown hardware {variant.hardware!r}; known: {', '.join(hardware) or 'none'}"
    if not batches:
        yield f"variant {name} has no latencies"
    if any(after <= before for before, after in pairwise([0, *batches])):
        yield f"variant {name}: batch sizes must ascend from 1"
    for point in variant.latency:
        if not 0 < point.p50_s <= point.p99_s:
            yield f"variant {name}, batch {point.batch}: p50_s must be positive, and p99_s not below it"


# -- conversion --------------------------------------------------------------------------------------------------------


def _row(variant: CatalogueVariant) -> Variant:
    return Variant(
        name=variant.name, architecture=variant.architecture, task=variant.task, runtime=variant.runtime,
        precision=variant.precision, hardware=variant.hardware, max_batch=variant.max_batch, artifact="",
        state=VariantState.READY, partitions=1,
    )  # fmt: skip


def _profile(variant: CatalogueVariant) -> Profile:
    line = fit_latency(variant.latency)
    return Profile(
        variant=variant.name, device=variant.hardware, threads=variant.threads, load_s=variant.load_s,
        memory_bytes=variant.memory_bytes, accuracy=variant.accuracy, accuracy_source=AccuracySource.DECLARED,
        samples=0, latency=variant.latency, intercept_s=line.intercept_s, slope_s=line.slope_s, fit_error=line.error,
    )  # fmt: skip
