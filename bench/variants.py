"""`make bench-variants`: every variant of the zoo that this machine can make, registered, measured and compared.

Writes `docs/variants.md` and its plots. No query is sent, so a system on the embedded broker is enough. `--home` reads
the registrations of a running system instead.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.core.system import infaas, running_system
from bench.results import VARIANT_PLOTS, VARIANTS, origin
from infaas.cli.plot import draw_image
from infaas.up.state import read_state
from registry.comparison import ComparedVariant, compare
from schemas.errors import OperatorError
from schemas.rows.catalog import Variant, VariantState
from store.pool import open_pool
from store.registry import list_profiles, list_variants

_EQUAL: Final = 0.01
"""Difference in accuracy that counts as equal: one point."""
_REFERENCES: Final = ("onnx-fp32", "torch-fp32")


async def _measure() -> None:
    began = time.monotonic()
    async with running_system("embedded") as system:
        await infaas(system.home, "register", "--zoo", "--all-variants")
        await _write(system.postgres, f"registered in {(time.monotonic() - began) / 60:.0f} minutes")


async def _write(postgres: str, how: str) -> None:
    async with open_pool(postgres, max_size=1) as pool:
        variants = await list_variants(pool)
        profiles = {profile.variant: profile for profile in await list_profiles(pool)}
    compared = compare([one for one in variants if one.state is VariantState.READY], profiles)
    refused = [one for one in variants if one.state is VariantState.REFUSED]
    VARIANT_PLOTS.mkdir(exist_ok=True)
    for task in _tasks(compared):
        draw_image(task, [one.point() for one in _of(task, compared)], VARIANT_PLOTS / f"{task}.png")
    VARIANTS.write_text(page(compared, refused, f"{how}. Commit {origin()}."))


def page(compared: Sequence[ComparedVariant], refused: Sequence[Variant], origin: str) -> str:
    """Format the page in Markdown; `origin` gives the time and machine of its figures."""
    lines = [
        "# Variants of the zoo",
        "",
        f"Variants that registration makes of the zoo's models, by `make bench-variants`: {len(compared)} in total,",
        origin,
        "",
        "Latencies are medians on one core, in milliseconds; costs are USD per 1000 inputs at the cheapest batch, at",
        "list prices. A `~` marks measurements on a busy machine. A dominated variant is no more accurate than the",
        "named one, and slower at every batch size; it is kept. `infaas variants plot TASK` draws the same plot.",
        "",
    ]
    for task in _tasks(compared):
        mine = _of(task, compared)
        lines += [f"## {task}", "", f"![accuracy against latency and cost](variants/{task}.png)", ""]
        lines += [*_best(mine), "", *_table(mine), ""]
    if refused:
        lines += ["## Refused", "", "| variant | why |", "|---|---|"]
        lines += [f"| {one.name} | {one.reason} |" for one in refused]
    return "\n".join(lines).rstrip() + "\n"


def _best(compared: Sequence[ComparedVariant]) -> list[str]:
    """Return a table of each model's fastest variant of equal accuracy, against the model as registered."""
    lines = ["| model | as registered | fastest within a point | batch 1 | largest batch |", "|---|---:|---|---:|---:|"]
    for architecture in dict.fromkeys(one.variant.architecture for one in compared):
        mine = [one for one in compared if one.variant.architecture == architecture]
        reference = next((one for one in mine if one.label in _REFERENCES), None)
        if reference is None:  # a cascade or a chain: not registered as a model
            continue
        equal = [one for one in mine if one.profile.accuracy >= reference.profile.accuracy - _EQUAL]
        size = reference.latency.max_batch
        small = min(equal, key=lambda one: one.latency_s)
        large = min(equal, key=lambda one: one.latency.batch_s(size))
        lines.append(
            f"| {architecture} | {reference.latency_s * 1000:.3g} ms, {reference.latency.batch_s(size) * 1000:.3g} ms "
            f"| {small.label}, {large.label} | {reference.latency_s / small.latency_s:.2f}x "
            f"| {reference.latency.batch_s(size) / large.latency.batch_s(size):.2f}x |"
        )
    return lines


def _table(compared: Sequence[ComparedVariant]) -> list[str]:
    size = max(one.latency.max_batch for one in compared)
    lines = [
        f"| variant | accuracy | b1 | b4 | b{size} | cost | load | memory | tuning | dominated by |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    for one in sorted(compared, key=lambda one: (one.variant.architecture, one.latency_s)):
        noisy = "~" if one.profile.is_noisy else ""
        b1, b4, largest = (f"{one.latency.batch_s(batch) * 1000:.3g}" for batch in (1, 4, size))
        lines.append(
            f"| {one.title} | {one.profile.accuracy:.2%} | {noisy}{b1} | {b4} | {largest} | {one.cost:.2g} "
            f"| {one.profile.load_s * 1000:.0f} ms | {one.profile.memory_bytes / 2**20:.0f} MiB | {one.variant.tuning} "
            f"| {one.dominated_by.rpartition('.')[0]} |"
        )
    return lines


def _tasks(compared: Sequence[ComparedVariant]) -> list[str]:
    return list(dict.fromkeys(one.variant.task for one in compared))


def _of(task: str, compared: Sequence[ComparedVariant]) -> list[ComparedVariant]:
    return [one for one in compared if one.variant.task == task]


def main() -> None:
    """Parse the command line, measure or read, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="home of a running system in which they are registered already")
    home: Path | None = parser.parse_args().home
    if home is None:
        asyncio.run(_measure())
        return
    state = read_state(home)
    if state is None:
        raise OperatorError(f"no system runs in {home}")
    asyncio.run(_write(state.postgres, "registered before"))


if __name__ == "__main__":
    main()
