"""Scenario files: a scenario as a document, with names of files and workloads in place of arrays.

`docs/simulation.md` documents the format. Each field has an option of `infaas simulate`, or is set by `--set`.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from schemas.errors import OperatorError
from schemas.query import Mode
from simulator.baselines import BASELINES
from simulator.catalogue import Catalogue, read_catalogue
from simulator.durations import Seconds
from simulator.scenario import Count, Scenario, ScenarioSettings
from simulator.services.infaas import InfaasSystem
from simulator.system import SimulatedSystem, SimulationContext
from simulator.trace import QueryKind, Trace, read_trace
from simulator.workloads.description import read_workload
from simulator.workloads.workload import Workload, generate

SystemFactory = Callable[[SimulationContext], SimulatedSystem]
INFAAS: Final = "infaas"


class DefaultNeeds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Needs of the queries for which the trace states none. None: no limit."""

    latency_ms: Annotated[float, Meta(ge=0)] | None = None
    """Latency objective of online queries."""
    min_accuracy: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_cost: Annotated[float, Meta(ge=0)] | None = None
    """Maximum USD per 1000 queries."""

    def fill(self, kind: QueryKind) -> QueryKind:
        """Return a kind with these needs in place of the absent ones."""
        given = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        if kind.mode is Mode.OFFLINE:
            given.pop("latency_ms", None)
        return replace(kind, **{name: value for name, value in given.items() if getattr(kind, name) is None})


class ScenarioFile(ScenarioSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scenario as it is written in a file."""

    trace: str = ""
    """File of a trace."""
    workload: str | Workload = ""
    """Workload to draw the trace from: a short description, the name of a JSON file, or the workload itself."""
    overlay: tuple[str, ...] = ()
    """Files of further traces, whose queries arrive together with those of the trace or workload."""
    speed: Annotated[float, Meta(gt=0)] = 1.0
    """Factor by which the trace runs faster."""
    cut: tuple[Seconds, Seconds | None] | None = None
    """Begin and end of the used part of the trace in seconds, after the speed-up; None as the end: all."""
    queries: Annotated[int, Meta(ge=0)] | None = None
    """Maximum number of queries."""
    needs: DefaultNeeds = DefaultNeeds()
    catalogue: str = ""
    """File of a catalogue, or the name of one that is part of the package."""
    maximum: dict[str, Count] = msgspec.field(default_factory=dict[str, int])
    """Maximum number of workers by hardware, in place of the catalogue's."""
    start_s: dict[str, Seconds] = msgspec.field(default_factory=dict[str, float])
    """Start time of a worker in seconds by hardware, in place of the catalogue's."""
    system: str = INFAAS
    """System that answers the queries: `infaas`, or the name of a baseline."""

    def scenario(self, seed: int) -> Scenario:
        """Read the files and return the scenario for a seed, which also draws the trace of a workload.

        Raises:
            OperatorError: a file is invalid, or the parts do not fit together.
            OSError: a file cannot be read.
        """
        catalogue = self.bounded_catalogue()
        found = replace(Scenario(**self.settings(), trace=self._trace(seed), catalogue=catalogue), seed=seed)
        _check(found)
        return found

    def bounded_catalogue(self) -> Catalogue:
        """Read the catalogue, with `maximum` and `start_s` in place of its own values.

        Raises:
            OperatorError: there is none, it is invalid, or `maximum` or `start_s` names other hardware.
            OSError: the file cannot be read.
        """
        if not self.catalogue:
            raise OperatorError("a scenario needs a catalogue: --catalogue FILE or NAME")
        return self.bounded(read_catalogue(self.catalogue))

    def bounded(self, catalogue: Catalogue) -> Catalogue:
        """Return a catalogue with `maximum` and `start_s` in place of its own values.

        Raises:
            OperatorError: `maximum` or `start_s` names other hardware.
        """
        known = [one.name for one in catalogue.hardware]
        _check_known("maximum", self.maximum, known)
        _check_known("start_s", self.start_s, known)
        return catalogue.bounded(self.maximum).starting(self.start_s)

    def _trace(self, seed: int) -> Trace:
        if bool(self.trace) == bool(self.workload):
            raise OperatorError("a scenario needs either a trace or a workload: --trace FILE, or --workload TEXT")
        if self.trace:
            trace = read_trace(Path(self.trace))
        else:
            described = read_workload(self.workload) if isinstance(self.workload, str) else self.workload
            trace = generate(described, seed)
        trace = trace.overlaid([read_trace(Path(file)) for file in self.overlay]).faster(self.speed)
        if self.cut is not None:
            begin_s, end_s = self.cut
            trace = trace.cut(begin_s, math.inf if end_s is None else end_s)
        if self.queries is not None:
            trace = trace.limited(self.queries)
        return Trace(trace.time_s, trace.kind, tuple(self.needs.fill(kind) for kind in trace.kinds))


def convert_scenario(document: dict[str, Any]) -> ScenarioFile:
    """Convert a document to a scenario file; numbers may be texts.

    Raises:
        OperatorError: a field is unknown or its value is invalid; the message names it.
    """
    try:
        found = msgspec.convert(document, ScenarioFile, strict=False)
    except msgspec.ValidationError as error:
        raise OperatorError(f"scenario: {str(error).replace('`$.', '`')}") from None
    except UnicodeEncodeError:
        raise OperatorError("scenario: a text has bytes that are not UTF-8") from None
    if unknown := next(_unknown(document, found, ""), None):
        raise OperatorError(f"scenario: {unknown}")
    return found


def set_field(document: dict[str, Any], path: str, value: Any) -> None:
    """Set a field of a document by its path, e.g. `scaling.limits.headroom`.

    Raises:
        OperatorError: the path leads through a value.
    """
    *parents, name = path.split(".")
    fields: Any = document
    for parent in parents:
        fields = fields.setdefault(parent, {})
        if not isinstance(fields, dict):
            raise OperatorError(f"{path}: {parent} has no fields")
    fields[name] = value


def find_system(name: str) -> SystemFactory:
    """Return the system of this name.

    Raises:
        OperatorError: there is none.
    """
    known: dict[str, SystemFactory] = {INFAAS: InfaasSystem, **BASELINES}
    if name not in known:
        raise OperatorError(f"there is no system {name!r}; known: {', '.join(known)}")
    return known[name]


def _check_known(field: str, named: Mapping[str, float], known: list[str]) -> None:
    for name in named.keys() - set(known):
        raise OperatorError(f"{field}: the catalogue has no {name!r}; it has {', '.join(known[:20])}")


def _check(scenario: Scenario) -> None:
    """Raise OperatorError if the parts of a scenario do not fit together."""
    catalogue, trace = scenario.catalogue, scenario.trace
    hardware = {one.name: one for one in catalogue.hardware}
    _check_known("fleet", scenario.fleet, list(hardware))
    for field in ("placed", "placed_batch"):
        _check_known(field, getattr(scenario, field), [one.name for one in catalogue.variants])
    for name, count in scenario.fleet.items():
        if count > hardware[name].maximum:
            raise OperatorError(
                f"fleet: {count} workers of {name} are more than the maximum of {hardware[name].maximum}; set --max"
            )
    tasks = sorted({one.task for one in catalogue.variants})
    for kind in trace.kinds:
        if kind.task not in tasks:
            raise OperatorError(
                f"the catalogue has no variant of the task {kind.task!r}; its tasks: {', '.join(tasks)}"
            )
    if scenario.warm_up_s >= trace.duration_s:
        raise OperatorError(
            f"the trace ends after {trace.duration_s:g} s, within the warm-up of {scenario.warm_up_s:g} s"
        )


def _unknown(given: Any, found: Any, place: str) -> Iterator[str]:
    """Yield the fields of a document that its structs ignored: structs of services allow unknown fields."""
    if isinstance(given, list):
        items: list[Any] = given
        for number, (item, made) in enumerate(zip(items, found, strict=True)):
            yield from _unknown(item, made, f"{place}[{number}]")
    elif isinstance(given, dict) and isinstance(found, msgspec.Struct):
        fields: dict[str, Any] = given
        known = found.__struct_fields__
        for name, value in fields.items():
            path = f"{place}.{name}" if place else name
            if name in known:
                yield from _unknown(value, getattr(found, name), path)
            elif name != found.__struct_config__.tag_field:
                yield f"there is no field `{path}`; known: {', '.join(known)}"
