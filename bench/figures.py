"""A measured figure beside its floor, and the files in which figures are kept."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

RESULTS: Final = Path(__file__).parent / "results.json"
README: Final = Path(__file__).parent.parent / "README.md"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. `ratio` is value over floor, and `holds` whether it is on the right side of `target`."""

    name: str
    broker: str
    value: float
    unit: str
    floor: float | None = None
    """What the bare program reached in the same run; None where there is nothing to compare with."""
    ratio: float | None = None
    target: str = ""
    holds: bool | None = None
    group: str = ""
    """Which table of the README it belongs to: the first, or `scale`."""


def at_most(name: str, broker: str, value: float, unit: str, floor: float, limit: float) -> Figure:
    """A figure that is good when small: at most `limit` times its floor."""
    ratio = value / floor
    return Figure(
        name=name, broker=broker, value=value, unit=unit, floor=floor, ratio=ratio,
        target=f"<= {limit:g}x", holds=ratio <= limit,
    )  # fmt: skip


def at_least(name: str, broker: str, value: float, unit: str, floor: float, limit: float) -> Figure:
    """A figure that is good when large: at least `limit` times its floor."""
    ratio = value / floor
    return Figure(
        name=name, broker=broker, value=value, unit=unit, floor=floor, ratio=ratio,
        target=f">= {limit:g}x", holds=ratio >= limit,
    )  # fmt: skip


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of `values` lie, by the nearest rank."""
    ranked = sorted(values)
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)]


def write_results(figures: Sequence[Figure], machine: str) -> None:
    """Keep these figures in `bench/results.json` instead of those of the same name and broker; print the README's."""
    measured = {(figure.name, figure.broker) for figure in figures}
    before = msgspec.json.decode(RESULTS.read_bytes(), type=list[Figure]) if RESULTS.exists() else []
    kept = [*(f for f in before if (f.name, f.broker) not in measured), *figures]
    kept.sort(key=lambda figure: (figure.group, figure.broker))
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n")
    text = README.read_text()
    for group in {figure.group for figure in figures}:
        mark = "bench" if not group else f"bench-{group}"
        table = f"{_markdown(f for f in kept if f.group == group)}\nTaken on {machine}.\n"
        pattern = re.compile(rf"(<!-- {mark}:begin -->\n).*?(<!-- {mark}:end -->)", re.DOTALL)
        text = pattern.sub(lambda match, table=table: match[1] + table + match[2], text)
    README.write_text(text)


def _markdown(figures: Iterable[Figure]) -> str:
    lines = ["| what | broker | ours | floor | ratio | target | holds |", "|---|---|---:|---:|---:|---|---|"]
    for f in figures:
        floor = "" if f.floor is None else f"{f.floor:,.4g} {f.unit}"
        ratio = "" if f.ratio is None else f"{f.ratio:.2f}"
        holds = "" if f.holds is None else ("yes" if f.holds else "**no**")
        lines.append(f"| {f.name} | {f.broker} | {f.value:,.4g} {f.unit} | {floor} | {ratio} | {f.target} | {holds} |")
    return "\n".join(lines) + "\n"
