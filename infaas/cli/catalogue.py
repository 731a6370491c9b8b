"""`infaas catalogue`: catalogue files of the simulator, from a registry or from the package.

Only the launcher of a worker knows how long its start takes, so an exported catalogue has the default of launchers.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table

from admin import catalog, scaling
from admin.api import Empty
from infaas.cli.admin_client import call
from infaas.cli.connect import DEFAULT_HOME, Home, Json
from infaas.cli.output import CommandGroup, err, ms, show, show_json, table
from schemas.defaults import WORKER_START_S
from schemas.errors import OperatorError
from schemas.latency import LatencyModel
from schemas.rows.catalog import Profile, Variant, VariantState
from schemas.rows.cluster import WorkerRow
from simulator.catalogue import (
    Catalogue,
    CatalogueHardware,
    CatalogueVariant,
    format_catalogue,
    read_catalogue,
    write_catalogue,
)

app = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Write and show catalogues for the simulator.")


@app.command()
def export(
    output: Annotated[Path | None, typer.Option(dir_okay=False, help="Write this file; default: print it.")] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Write the registry's catalogue: ready variants with their profiles, and the hardware of the running workers."""
    found = call(home, catalog.variants, catalog.CatalogRequest())
    cluster = call(home, scaling.status, Empty())
    made = catalogue_of(found, [worker for worker in cluster.workers if worker.alive and not worker.draining])
    ready = sum(one.variant.state is VariantState.READY for one in found)
    if left_out := ready - len(made.variants):
        err.print(f"left out {left_out} variants: no worker of their hardware runs", highlight=False)
    if output is None:
        sys.stdout.write(format_catalogue(made))
    else:
        write_catalogue(made, output)


@app.command("show")
def show_catalogue(
    catalogue: Annotated[str, typer.Argument(help="File, or the name of a catalogue of the package.")],
    as_json: Json = False,
) -> None:
    """Show a catalogue: its hardware, and its variants with latency at the ends of their batch sizes."""
    found = read_catalogue(catalogue)
    if as_json:
        return show_json(found)
    return show(Group(_hardware_table(found.hardware), "", _variants_table(found.variants)))


def catalogue_of(found: Iterable[catalog.ListedVariant], workers: Sequence[WorkerRow]) -> Catalogue:
    """Return the catalogue of ready variants on the hardware of these workers.

    Raises:
        OperatorError: there are no workers.
    """
    if not workers:
        raise OperatorError("no worker runs, so the hardware is unknown: start one, e.g. with `infaas up`")
    by_hardware = defaultdict[str, list[WorkerRow]](list)
    for worker in sorted(workers, key=lambda worker: worker.name):
        by_hardware[worker.hardware].append(worker)
    return Catalogue(
        hardware=tuple(map(_hardware, by_hardware.values())),
        variants=tuple(
            _variant(one.variant, one.profile)
            for one in found
            if one.variant.state is VariantState.READY and one.profile and one.variant.hardware in by_hardware
        ),
    )


def _hardware(workers: Sequence[WorkerRow]) -> CatalogueHardware:
    """Describe workers of one hardware; the first stands for all."""
    first = workers[0]
    return CatalogueHardware(
        name=first.hardware, price_per_hour=first.price_per_hour, memory_bytes=first.memory_bytes, slots=first.slots,
        threads=first.threads, start_s=WORKER_START_S, maximum=len(workers), runtimes=first.runtimes,
        source=f"worker {first.name} ({first.device}); start: default of launchers; maximum: running workers",
    )  # fmt: skip


def _variant(row: Variant, profile: Profile) -> CatalogueVariant:
    return CatalogueVariant(
        name=row.name, task=row.task, architecture=row.architecture, hardware=row.hardware, runtime=row.runtime,
        precision=row.precision, max_batch=row.max_batch, accuracy=profile.accuracy, load_s=profile.load_s,
        memory_bytes=profile.memory_bytes, threads=profile.threads, latency=profile.latency,
        source=f"registry: measured on {profile.device}; accuracy {profile.accuracy_source}",
    )  # fmt: skip


def _hardware_table(hardware: Iterable[CatalogueHardware]) -> Table:
    columns = ("hardware", "USD/h>", "MiB>", "slots>", "threads>", "start>", "max>", "source")
    rows = [
        (h.name, f"{h.price_per_hour:.3f}", _mib(h.memory_bytes), h.slots, h.threads, f"{h.start_s:g} s", h.maximum,
         h.source)
        for h in hardware
    ]  # fmt: skip
    return table(columns, rows, optional_columns=("source",))


def _variants_table(variants: Iterable[CatalogueVariant]) -> Table:
    columns = ("variant", "task", "accuracy>", "latency b1>", "b max>", "load>", "MiB>", "source")
    return table(columns, map(_variant_row, variants), optional_columns=("source", "task"))


def _variant_row(variant: CatalogueVariant) -> tuple[object, ...]:
    latency = LatencyModel(variant.latency, variant.max_batch)
    first, last = ms(latency.batch_s(1)), f"{ms(latency.batch_s(variant.max_batch))} (b{variant.max_batch})"
    head = (variant.name, variant.task, f"{variant.accuracy:.2%}")
    return (*head, first, last, ms(variant.load_s), _mib(variant.memory_bytes), variant.source)


def _mib(count: int) -> str:
    return f"{count >> 20:,}"
