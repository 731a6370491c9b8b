"""Record of a run: its scenario, the figures of each seed, and the versions that made them, as `run.json`."""

import platform
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, Final

import msgspec

from process.version import version
from schemas.errors import OperatorError
from simulator.figures import MeanFigure, flatten, mean_figure
from simulator.replications import Replications
from simulator.scenario_file import INFAAS

RUN_FILE: Final = "run.json"
_LIBRARIES: Final = ("numpy", "highspy", "msgspec")


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `run.json`."""

    scenario: dict[str, Any]
    """The scenario as a document: a scenario file without defaults."""
    seeds: dict[str, dict[str, Any]]
    """Figures of `Summary` by seed, with the violations; null: unknown."""
    versions: dict[str, str]
    events: int
    """Simulated events of the first seed."""
    wall_s: float
    """Seconds that the simulation of the first seed took."""

    @property
    def system(self) -> str:
        """Name of the simulated system."""
        return self.scenario.get("system", INFAAS)

    def figures(self) -> dict[str, MeanFigure]:
        """Return each figure over the seeds; those by hardware or reason are named `workers.cpu`, for example."""
        flat = [dict(flatten(one)) for one in self.seeds.values()]
        names = dict.fromkeys(name for one in flat for name in one)
        return {name: mean_figure([one.get(name, 0.0) for one in flat]) for name in names}


def record_run(document: dict[str, Any], found: Replications) -> RunRecord:
    """Return the record of replications of the scenario in `document`."""
    return RunRecord(
        scenario=document,
        seeds={
            str(seed): msgspec.to_builtins(one) | {"violations": one.violations}
            for seed, one in found.summaries.items()
        },
        versions={"infaas": version(), "python": platform.python_version()}
        | {name: version_of(name) for name in _LIBRARIES},
        events=found.first.events,
        wall_s=found.first.wall_s,
    )


def format_record(record: RunRecord) -> bytes:
    """Return the text of `run.json`."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def read_record(folder: Path) -> RunRecord:
    """Read the record of a run from its folder.

    Raises:
        OperatorError: the folder has none.
    """
    file = folder / RUN_FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=RunRecord)
    except OSError as error:
        remedy = "`infaas simulate --output FOLDER` writes one"
        raise OperatorError(f"cannot read {file}: {error.strerror}; {remedy}") from error
    except msgspec.MsgspecError as error:
        raise OperatorError(f"{file} is not the record of a run: {error}") from error
