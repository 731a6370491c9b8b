"""Log of finished trials as JSON lines, so that an ablation that ends early continues where it was.

The first line states the origin of all figures. Figures of other commits are not mixed: at another commit the log is
only read.
"""

from pathlib import Path
from typing import Final

import msgspec

from bench.ablation.trial import AblationFigures, AblationTrial
from bench.results import Origin

_decode: Final = msgspec.json.Decoder(tuple[AblationTrial, AblationFigures]).decode


class TrialLog:
    """Figures by trial, in one file; `present` is the origin of figures that are taken now."""

    def __init__(self, path: Path, present: Origin) -> None:
        self._path = path
        self._commit = present.commit
        self.figures = dict[AblationTrial, AblationFigures]()
        if path.exists():
            first, *lines = path.read_bytes().splitlines()
            self.origin = msgspec.json.decode(first, type=Origin)
            self.figures |= map(_decode, lines)
        else:
            self.origin = present
            self._append(self.origin)

    @property
    def is_open(self) -> bool:
        """True if the code is that of the log's figures."""
        return self.origin.commit == self._commit

    def add(self, trial: AblationTrial, figures: AblationFigures) -> None:
        """Append the figures of a trial."""
        self.figures[trial] = figures
        self._append((trial, figures))

    def _append(self, line: object) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")
