"""Descriptions of workloads: a JSON file, or a short text for a workload of one stream and one set of needs.

The text is the name of a process and settings, e.g. `poisson:rate=200,seconds=600,task=mnist,latency_ms=50`. Settings
are the parameters of the process, and the fields of `QueryStream`, `Mix` and `KindTemplate` that hold one value. The
elements of a list are separated by `/`. The format is documented in `docs/traces.md`.
"""

from pathlib import Path
from typing import Any, Final, get_args

import msgspec
from msgspec.inspect import StructType, VarTupleType, type_info

from schemas.errors import OperatorError
from simulator.workloads.arrival_process import ArrivalProcess
from simulator.workloads.mix import KindTemplate, Mix
from simulator.workloads.workload import AnyProcess, QueryStream, Workload

PROCESSES: Final[dict[str, type[ArrivalProcess]]] = {
    str(process.__struct_config__.tag): process for process in get_args(AnyProcess)
}
"""Arrival processes by name."""
_JSON: Final = ".json"
_STREAM_SETTINGS: Final = ("seconds", "start", "speed")
_MIX_SETTINGS: Final = ("tasks", "zipf")
_KIND_SETTINGS: Final = tuple(name for name in KindTemplate.__struct_fields__ if name != "weight")


def read_workload(text: str) -> Workload:
    """Read a workload from a JSON file, if `text` ends in `.json`, or from a short description.

    Raises:
        OperatorError: a name is unknown or a value is out of range; the message names it.
        OSError: the file cannot be read.
    """
    if not text.endswith(_JSON):
        return parse_workload(text)
    try:
        return msgspec.json.decode(Path(text).read_bytes(), type=Workload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise OperatorError(f"{text}: {error}; docs/traces.md describes the format") from None


def parse_workload(text: str) -> Workload:
    """Parse a short description of a workload.

    Raises:
        OperatorError: a name is unknown or a value is out of range; the message names it.
    """
    name, _, rest = text.partition(":")
    process = PROCESSES.get(name)
    if process is None:
        raise OperatorError(f"{name!r} is not a kind of arrivals; use {', '.join(PROCESSES)}, or a file *{_JSON}")
    settings = _settings(text, rest)
    stream: dict[str, Any] = {"arrivals": {"process": name} | _taken(settings, process.__struct_fields__, process)}
    stream |= _taken(settings, _STREAM_SETTINGS, QueryStream)
    stream["mix"] = _taken(settings, _MIX_SETTINGS, Mix) | {"kinds": [_taken(settings, _KIND_SETTINGS, KindTemplate)]}
    if settings:
        known = (*process.__struct_fields__, *_STREAM_SETTINGS, *_MIX_SETTINGS, *_KIND_SETTINGS)
        raise OperatorError(f"{text!r}: {name} has no setting {', '.join(settings)}; use {', '.join(known)}")
    try:
        return msgspec.convert({"streams": [stream]}, Workload, strict=False)
    except msgspec.ValidationError as error:
        raise OperatorError(f"{text!r}: {str(error).replace('`$.streams[0].', '`')}") from None


def _settings(text: str, rest: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in rest.split(",")] if rest else []
    settings = {key.strip(): value.strip() for key, _, value in pairs}
    if len(settings) < len(pairs) or not all(sign and value.strip() for _, sign, value in pairs):
        raise OperatorError(f"{text!r}: write each setting once, as `name=value`, separated by commas")
    return settings


def _taken(settings: dict[str, str], names: tuple[str, ...], struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Remove the settings of these names, and return them with lists split."""
    info = type_info(struct)
    assert isinstance(info, StructType)
    lists = {field.name for field in info.fields if isinstance(field.type, VarTupleType)}
    taken = {name: settings.pop(name) for name in names if name in settings}
    return {name: value.split("/") if name in lists else value for name, value in taken.items()}
