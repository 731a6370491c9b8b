"""The page of the ablation, docs/ablation.md."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from bench.ablation.deleted import DELETED, KEPT_FOR
from bench.ablation.differences import FIGURES, Difference, Differences
from bench.ablation.inventory import MECHANISMS
from bench.ablation.mechanism import AblatedMechanism, Area
from bench.ablation.sensitivity import ASSUMPTIONS, SETTINGS
from bench.ablation.workloads import WORKLOADS
from bench.markdown import details, plot_link, table
from bench.results import ABLATION

_HEAD: Final = """# Ablation

Simulations without one mechanism of the policy at a time, by `make bench-ablation`: is each worth its lines? Switches
exist in `bench/ablation/` only; the system has none.

A figure is the difference to the simulation with the mechanism: mean and sample standard deviation over the seeds, on
the same traces and draws. A mechanism is left out on the workloads of its area. A plus means more without the
mechanism: violations, the violations of the tenant with the most, and the share of answered offline queries in
percentage points; p99, accuracy and cost in percent. Only differences of at least 1 % that exceed their deviation are
shown. Lines are those of the functions and constants that could go; larger mechanisms include the lines of their parts.

What is worth less than 1 % on every workload and is no promise to users is deleted, unless the reason below speaks
against it. A difference of p99 alone below 3 % counts as less: deadlines are met all the same.

{origin}.

{plot}
"""
_PLOT: Final = "Violations that each mechanism prevents on the workload that shows it most"

_TOGETHER: Final = """\
Without the first eleven together (commit 36b344a3, seeds 11, 12 and 13) neither violations nor accuracy or cost of a
workload differ by 1 % beyond their deviation. The largest differences are +0.7 ±0.1 pp of violations in *selector at
its limit, 2 gateways*, and +1.2 ±0.2 % of p99 in *8 selectors*.

{lines} lines of the policy are gone, far fewer than the simulator's core has: most mechanisms are worth more than 1 %
on some workload, or keep a promise to users."""

_SETTINGS: Final = """\
## Settings, halved and doubled

The largest difference over some of the workloads, one seed. `keep_idle_s` stays as the promised time of old versions.
`downscale_delay_loads` stays for generative models: the loads here take three seconds at most, theirs up to minutes.

"""
_ASSUMPTIONS: Final = """\
## Assumptions of the simulation, halved and doubled

The largest differences over some of the workloads, for worse and for better: the figures of a simulation are as certain
as these values ([limits](explanation/simulation.md#limits)).

"""


def page(found: Differences, origin: str) -> str:
    """Format the page in Markdown; `origin` states seeds, commit, day and machine."""
    parts = [
        _HEAD.format(origin=origin, plot=plot_link(ABLATION, _PLOT)),
        _deleted(),
        _worth(found),
        _unseen(),
        _sensitivity(found, SETTINGS, _SETTINGS),
        _sensitivity(found, ASSUMPTIONS, _ASSUMPTIONS),
        _by_workload(found),
    ]
    return "\n".join(part for part in parts if part)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(table(titles, "l" * len(titles), rows)) + "\n"


def _folded(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(details(f"Differences, {len(rows)} mechanisms", table(titles, "l" * len(titles), rows))) + "\n"


def _deleted() -> str:
    together = _TOGETHER.format(lines=sum(one.lines for one in DELETED))
    text = f"## Deleted, and kept nevertheless\n\n{together}\n\n"
    rows = [[one.name, str(one.lines), one.figures] for one in DELETED]
    text += _table(["deleted", "lines", "largest differences without it, three seeds"], rows)
    return text + "\n" + _table(["kept", "reason"], KEPT_FOR)


def _worth(found: Differences) -> str:
    text = (
        "## Worth of each mechanism\n\n"
        "The largest differences over all workloads, for worse and for better; the figure above shows violations.\n"
    )
    for area in Area:
        rows = [_row(one, found) for one in MECHANISMS.values() if one.area is area and one.name in found]
        if rows:
            text += f"\n### {area.capitalize()}\n\n"
            text += _folded(["without", "lines", "seeds", *FIGURES.values(), "promise"], rows)
    return text


def _row(mechanism: AblatedMechanism, found: Differences) -> list[str]:
    of_all = found[mechanism.name].values()
    cells = [_largest([one for all_of in of_all for one in all_of if one.figure == name]) for name in FIGURES]
    seeds = min(one.seeds for all_of in of_all for one in all_of)
    return [mechanism.name, str(mechanism.lines()), str(seeds), *cells, mechanism.promise]


def _largest(differences: Sequence[Difference]) -> str:
    """Return the largest noticeable differences, for the worse and for the better."""
    sides = ([one for one in differences if one.is_noticeable and one.is_worse is worse] for worse in (True, False))
    return "; ".join(str(max(side, key=lambda one: abs(one.mean))) for side in sides if side)


def _unseen() -> str:
    rows = [
        [one.name, one.area.value, str(one.lines()), one.unseen, one.promise]
        for one in MECHANISMS.values()
        if one.unseen
    ]
    return "## Not visible in simulation\n\n" + _table(["mechanism", "area", "lines", "reason", "promise"], rows)


def _sensitivity(found: Differences, settings: Iterable[str], head: str) -> str:
    rows = [row for setting in settings for row in _of_setting(setting, found)]
    return head + _table(["setting", "value", *FIGURES.values()], rows) if rows else ""


def _of_setting(setting: str, found: Differences) -> Iterator[list[str]]:
    for change, of_workloads in found.items():
        if change.startswith(f"{setting} = "):
            differences = [one for all_of in of_workloads.values() for one in all_of]
            cells = [_largest([one for one in differences if one.figure == name]) for name in FIGURES]
            yield [
                f"`{setting.removeprefix('scaling.limits.').removeprefix('policy.')}`",
                change.rpartition(" ")[2],
                *cells,
            ]


def _by_workload(found: Differences) -> str:
    text = "## By workload\n"
    for name in WORKLOADS:
        tried = [change for change in found if name in found[change] and change in MECHANISMS]
        if not tried:
            continue
        rows = [[change, *_cells(found[change][name])] for change in tried]
        changed = [row for row in rows if any(row[1:])]
        same = [row[0] for row in rows if not any(row[1:])]
        text += f"\n### {name}\n\n"
        text += _folded(["without", *FIGURES.values()], changed) if changed else ""
        text += f"\nNo difference without: {'; '.join(same)}.\n" if same else ""
    return text


def _cells(differences: Sequence[Difference]) -> list[str]:
    return [str(one) if one.is_noticeable else "" for one in differences]
