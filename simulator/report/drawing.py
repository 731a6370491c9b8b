"""Drawing of panels by matplotlib (the extra `plots`), as inline SVG or as an image file.

Equal panels give equal bytes.
"""

import importlib
import importlib.util
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from schemas.errors import OperatorError
from simulator.report.panels import Panel

_COLUMNS: Final = 2
_SIZE: Final = (6.5, 2.6)
"""Inches of a panel."""
_DPI: Final = 110
_STYLE: Final = {"svg.hashsalt": "infaas", "svg.fonttype": "none", "font.size": 9, "legend.fontsize": 7}
_METADATA: Final = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_PROLOGUE: Final = re.compile(r"^.*?(?=<svg)|<metadata>.*?</metadata>| xmlns(:\w+)?=\"[^\"]*\"", re.DOTALL)
"""Parts of an SVG file that an HTML page does not need."""


def can_draw() -> bool:
    """Return true if matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def check_matplotlib() -> None:
    """Raise OperatorError if matplotlib is not installed."""
    if not can_draw():
        raise OperatorError("matplotlib is not installed: pip install 'infaas[plots]'")


def draw_svg(panels: Sequence[Panel], warm_up_s: float = 0.0) -> str:
    """Return an `<svg>` element for an HTML page.

    Raises:
        OperatorError: matplotlib is not installed.
    """
    text = io.StringIO()
    _save(panels, warm_up_s, text, format="svg", metadata=_METADATA)
    return _PROLOGUE.sub("", text.getvalue())


def draw_image(panels: Sequence[Panel], file: Path, warm_up_s: float = 0.0) -> None:
    """Write an image in the format of the file's suffix, for example PNG.

    Raises:
        OperatorError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        _save(panels, warm_up_s, file, dpi=_DPI, metadata={"Software": None} if file.suffix == ".png" else None)
    except (OSError, ValueError) as error:
        raise OperatorError(f"cannot write {file}: {error}") from error


def _save(panels: Sequence[Panel], warm_up_s: float, target: Any, **options: Any) -> None:
    check_matplotlib()
    matplotlib: Any = importlib.import_module("matplotlib")
    figures: Any = importlib.import_module("matplotlib.figure")
    rows = -(-len(panels) // _COLUMNS)
    with matplotlib.rc_context(_STYLE):
        figure = figures.Figure(figsize=(_SIZE[0] * _COLUMNS, _SIZE[1] * rows), layout="constrained")
        for axes, panel in zip(figure.subplots(rows, _COLUMNS, sharex=True, squeeze=False).flat, panels, strict=False):
            _draw(axes, panel, warm_up_s)
        for axes in figure.axes[-_COLUMNS:]:
            axes.set_xlabel("seconds of the trace")
        figure.savefig(target, **options)


def _draw(axes: Any, panel: Panel, warm_up_s: float) -> None:
    axes.set_title(panel.title, loc="left")
    axes.grid(alpha=0.3)
    for label, values in panel.lines.items():
        axes.step(panel.time_s, values, where="post", linewidth=1, label=label or None)
    if panel.from_zero:
        axes.set_ylim(bottom=0)
    if warm_up_s:
        axes.axvspan(0, warm_up_s, color="0.9", zorder=0)
    if any(panel.lines):
        axes.legend(loc="upper right")
