"""Options of a scenario, for `infaas simulate` and `infaas plan`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from schemas.errors import OperatorError
from simulator.scenario_file import ScenarioFile, convert_scenario, set_field

_SCENARIO: Final = "Scenario"
_COUNTS: Final = "NAME=N,..."


class ScalingChoice(StrEnum):
    """Policy of the autoscaler, or none."""

    MILP = "milp"
    GREEDY = "greedy"
    OFF = "off"


def _option(text: str, *flags: str, metavar: str | None = None, minimum: float | None = None) -> Any:
    return typer.Option(*flags, help=text, metavar=metavar, min=minimum, rich_help_panel=_SCENARIO)


class ScenarioFlags(msgspec.Struct, frozen=True, kw_only=True):
    """Options that describe a scenario; each takes precedence over the scenario file."""

    scenario: Annotated[
        Path | None, _option("JSON file with a whole scenario; other options change it.", metavar="FILE")
    ] = None
    trace: Annotated[str | None, _option("Trace: a .csv, .csv.gz, .csv.xz or .parquet file.", metavar="FILE")] = None
    workload: Annotated[
        str | None,
        _option("Workload in place of a trace, e.g. poisson:rate=200,seconds=600,task=digits.", metavar="TEXT|FILE"),
    ] = None
    overlay: Annotated[
        list[str] | None,
        _option("Trace whose queries arrive together with the others. Repeatable.", metavar="FILE"),
    ] = None
    speed: Annotated[float | None, _option("Run the trace this many times faster.")] = None
    cut: Annotated[str | None, _option("Use only this part of the trace, in seconds.", metavar="BEGIN:[END]")] = None
    queries: Annotated[int | None, _option("Use only the first queries of the trace.", minimum=0)] = None
    needs: Annotated[
        str | None,
        _option(
            "Needs of queries for which the trace states none: latency_ms, min_accuracy, max_cost.",
            metavar="NAME=VALUE,...",
        ),
    ] = None
    catalogue: Annotated[
        str | None, _option("Variants and hardware: a file, or a catalogue of the package.", metavar="FILE|NAME")
    ] = None
    fleet: Annotated[str | None, _option("Workers at the start, by hardware, e.g. cpu=4,t4=1.", metavar=_COUNTS)] = None
    maximum: Annotated[str | None, _option("Maximum number of workers, by hardware.", "--max", metavar=_COUNTS)] = None
    placed: Annotated[str | None, _option("Loaded instances at the start, by variant.", metavar=_COUNTS)] = None
    scaling: Annotated[ScalingChoice | None, _option("Policy of the autoscaler; off: the fleet is fixed.")] = None
    selectors: Annotated[int | None, _option("Number of selectors.", minimum=1)] = None
    gateways: Annotated[int | None, _option("Number of gateways; 0: clients write to Kafka.", minimum=0)] = None
    system: Annotated[str | None, _option("System to simulate: infaas, or a baseline.", metavar="NAME")] = None
    fault: Annotated[
        list[str] | None,
        _option("Fault to inflict, e.g. worker-dies:at_s=30. Repeatable.", metavar="KIND:at_s=N,..."),
    ] = None
    warm_up: Annotated[float | None, _option("Leave the first seconds out of the figures.", minimum=0)] = None
    seed: Annotated[int | None, _option("Seed of the workload and of the simulation.", minimum=0)] = None
    settings: Annotated[
        list[str] | None,
        _option(
            "Set a field of the scenario file, e.g. scaling.limits.headroom=1.2. Repeatable.",
            "--set",
            metavar="FIELD=VALUE",
        ),
    ] = None

    def document(self) -> dict[str, Any]:
        """Return the scenario file with the options written into it.

        Raises:
            OperatorError: the file or an option cannot be parsed.
        """
        document = {} if self.scenario is None else _read_document(self.scenario)
        for field in (
            "trace",
            "workload",
            "overlay",
            "speed",
            "queries",
            "catalogue",
            "selectors",
            "gateways",
            "system",
            "seed",
        ):
            if (value := getattr(self, field)) is not None:
                document[field] = value
        if self.trace is not None or self.workload is not None:
            document.pop("trace" if self.trace is None else "workload", None)
        for field in ("needs", "fleet", "maximum", "placed"):
            if (text := getattr(self, field)) is not None:
                document[field] = parse_pairs(text)
        if self.cut is not None:
            document["cut"] = _parse_cut(self.cut)
        if self.warm_up is not None:
            document["warm_up_s"] = self.warm_up
        if self.scaling is not None:
            set_field(document, "scaling.enabled", self.scaling is not ScalingChoice.OFF)
            if self.scaling is not ScalingChoice.OFF:
                set_field(document, "scaling.policy", self.scaling.value)
        if self.fault:
            document["faults"] = [_parse_fault(text) for text in self.fault]
        for text in self.settings or ():
            for path, value in parse_pairs(text, single=True).items():
                set_field(document, path, value)
        return document

    def read(self) -> tuple[dict[str, Any], ScenarioFile]:
        """Return the document and the scenario that it describes.

        Raises:
            OperatorError: the file or an option is invalid.
        """
        document = self.document()
        return document, convert_scenario(document)


def parse_pairs(text: str, *, single: bool = False) -> dict[str, Any]:
    """Parse `NAME=VALUE,...`; a value is JSON, else a text. With `single` there is one pair, and commas belong to it.

    Raises:
        OperatorError: a pair has no `=`.
    """
    found: dict[str, Any] = {}
    for pair in [text] if single else text.split(","):
        name, sign, value = pair.partition("=")
        if not sign or not name.strip():
            raise OperatorError(f"{text!r}: write NAME=VALUE")
        found[name.strip()] = _parse_value(value.strip())
    return found


def _parse_value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text


def _parse_fault(text: str) -> dict[str, Any]:
    kind, _, settings = text.partition(":")
    return {"kind": kind} | (parse_pairs(settings) if settings else {})


def _parse_cut(text: str) -> list[Any]:
    begin, _, end = text.partition(":")
    return [begin or 0, end or None]


def _read_document(file: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise OperatorError(f"{file} is not a scenario file: {error}") from error
