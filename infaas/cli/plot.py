"""`infaas variants plot`: accuracy against latency and against cost, in the terminal or as an image.

The image needs matplotlib (the extra `plots`), which is imported on demand. A line joins the Pareto-optimal variants of
each plot; dominated variants are hollow.
"""

import importlib
import math
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from string import ascii_lowercase
from typing import Annotated, Any, Final

import typer

from admin import catalog
from infaas.cli import listing
from infaas.cli.admin_client import call
from infaas.cli.connect import DEFAULT_HOME, Home
from infaas.cli.options import RequestOptions, with_options
from infaas.cli.output import out
from registry.comparison import ComparedPoint
from schemas.errors import OperatorError

_MARKERS: Final = "osD^vP*X<>hd"
_HEIGHT: Final = 18
_MARGIN: Final = 8
_WIDEST: Final = 120

Axis = tuple[str, Callable[[ComparedPoint], float]]
AXES: Final[tuple[Axis, ...]] = (
    ("latency of one input, ms", lambda one: one.latency_s * 1000),
    ("cost at the best batch, USD per 1000", lambda one: one.cost),
)

app = typer.Typer()
app.callback(invoke_without_command=True)(listing.variants)


@app.command()
@with_options
def plot(
    options: RequestOptions[catalog.ComparisonRequest],
    image: Annotated[
        Path | None, typer.Option("--image", dir_okay=False, help="Write an image file instead, e.g. variants.png.")
    ] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Draw the variants of a task: accuracy against latency and against cost, here or as an image."""
    request = options.request()
    task, compared = request.task, call(home, catalog.comparison, request)
    if image is None:
        typer.echo(draw_terminal(task, compared, min(out.width, _WIDEST)))
    else:
        draw_image(task, compared, image)
        typer.echo(f"wrote {image}", err=True)


def frontier(compared: Sequence[ComparedPoint], quantity: Callable[[ComparedPoint], float]) -> list[ComparedPoint]:
    """Return the Pareto-optimal points for high accuracy and a small quantity, in ascending order of the quantity."""
    best: list[ComparedPoint] = []
    for one in sorted(compared, key=lambda one: (quantity(one), -one.accuracy)):
        if not best or one.accuracy > best[-1].accuracy:
            best.append(one)
    return best


def draw_terminal(task: str, compared: Sequence[ComparedPoint], width: int) -> str:
    """Draw in plain characters: a letter per architecture, in upper case if the variant is not dominated."""
    letters = dict(zip(sorted({one.architecture for one in compared}), cycle(ascii_lowercase), strict=False))
    legend = ", ".join(f"{letter.upper()} {name}" for name, letter in letters.items())
    drawn = [f"{task}: {legend}; small letters are dominated"]
    for title, quantity in AXES:
        points = [
            (quantity(one), 100 * one.accuracy, letters[one.architecture], bool(one.dominated_by)) for one in compared
        ]
        drawn.append(f"\naccuracy in % against {title}\n{_scatter(points, width)}")
    return "\n".join(drawn)


def _scatter(points: Sequence[tuple[float, float, str, bool]], width: int) -> str:
    """Draw points (x, y, letter, small) as characters; x is logarithmic. Capital letters are drawn last, on top."""
    columns, rows = width - _MARGIN, _HEIGHT
    x_of, x_ends = _scale([math.log10(max(point[0], 1e-12)) for point in points], columns)
    y_of, y_ends = _scale([point[1] for point in points], rows)
    cells = [[" "] * columns for _ in range(rows)]
    for x, y, letter, small in sorted(points, key=lambda point: not point[3]):
        cells[rows - 1 - y_of(y)][x_of(math.log10(max(x, 1e-12)))] = letter if small else letter.upper()
    labels = {0: f"{y_ends[1]:.1f}", rows - 1: f"{y_ends[0]:.1f}"}
    lines = [f"{labels.get(number, ''):>{_MARGIN - 1}}|{''.join(row).rstrip()}" for number, row in enumerate(cells)]
    low, high = (f"{10**end:.3g}" for end in x_ends)
    return "\n".join([*lines, f"{'+':>{_MARGIN}}{'-' * columns}", f"{'':{_MARGIN}}{low}{high:>{columns - len(low)}}"])


def _scale(values: Sequence[float], cells: int) -> tuple[Callable[[float], int], tuple[float, float]]:
    """Return a function from values to cell indexes, and the lowest and the highest value."""
    low, high = min(values), max(values)
    span = max(high - low, 1e-9)
    return lambda value: round((value - low) / span * (cells - 1)), (low, high)


def draw_image(task: str, compared: Sequence[ComparedPoint], file: Path) -> None:
    """Write an image, in the format of the file's suffix, for example PNG.

    Raises:
        OperatorError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        figures: Any = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise OperatorError("matplotlib is not installed: pip install 'infaas[plots]'") from error
    figure = figures.Figure(figsize=(13, 5.5), layout="constrained")
    labels = sorted({one.label for one in compared})
    for axes, (title, quantity) in zip(figure.subplots(1, len(AXES), sharey=True), AXES, strict=True):
        _draw_axes(axes, compared, labels, quantity)
        axes.set_xlabel(title)
    figure.axes[0].set_ylabel("accuracy, %")
    figure.suptitle(f"{task}: {len(compared)} variants, dominated ones hollow")
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", fontsize="small")
    try:
        figure.savefig(file, dpi=110, metadata={"Software": None} if file.suffix == ".png" else None)
    except (OSError, ValueError) as error:
        raise OperatorError(f"cannot write {file}: {error}") from error


def _draw_axes(
    axes: Any, compared: Sequence[ComparedPoint], labels: Sequence[str], quantity: Callable[[ComparedPoint], float]
) -> None:
    architectures = sorted({one.architecture for one in compared})
    axes.set_xscale("log")
    axes.grid(alpha=0.3)
    best = frontier(compared, quantity)
    axes.plot([quantity(one) for one in best], [100 * one.accuracy for one in best], color="0.6", zorder=1)
    for index, name in enumerate(architectures):
        axes.scatter([], [], color=f"C{index}", marker="s", label=name)
    for index, label in enumerate(labels):
        axes.scatter([], [], color="0.3", marker=_MARKERS[index % len(_MARKERS)], label=label)
    for one in compared:
        color = f"C{architectures.index(one.architecture)}"
        axes.scatter(
            quantity(one), 100 * one.accuracy, marker=_MARKERS[labels.index(one.label) % len(_MARKERS)],
            facecolor="none" if one.dominated_by else color, edgecolor=color, zorder=2,
        )  # fmt: skip
