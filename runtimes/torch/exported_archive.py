"""Archives of torch's exported programs (`.pt2`): rewritten so that they hold only data, and checked before each load.

Besides its graph (`exported_graph`) and raw weights, an archive may hold compiled code, and pickles (example inputs,
tensors marked `use_pickle`, custom objects) that torch loads without restriction. So registration makes a copy: the
example inputs are emptied, the JSON is rewritten, the weights are copied, and an archive that needs anything else is
refused. Each load checks that the file is such a copy, regardless of its origin.
"""

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from runtimes.torch.exported_graph import rewritten_graph, rewritten_payloads
from schemas.errors import InvalidRequest, ModelFailed

OUTPUTS_FILE: Final = "infaas-outputs.json"
OUTPUTS_ENTRY: Final = f"extra/{OUTPUTS_FILE}"
_EXAMPLES: Final = re.compile(r"data/sample_inputs/[^/]+\.pt")
_GRAPH: Final = re.compile(r"models/[^/]+\.json")
_CONFIG: Final = re.compile(r"data/(weights|constants)/[^/]+_config\.json")
_PLAIN: Final = re.compile(
    r"archive_format|archive_version|byteorder|\.format_version|\.storage_alignment|\.data/[^/]+"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+|extra/.*"
)


def make_safe(source: Path, target: Path, outputs: Sequence[str] = ()) -> None:
    """Write a copy of `source` that holds only data to `target`, with the names of the program's outputs; blocks.

    Raises:
        InvalidRequest: the archive is damaged, or its program needs more than data.
    """
    try:
        with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as safe:
            root = _root(source, archive)
            for entry in archive.infolist():
                name = entry.filename.removeprefix(f"{root}/")
                if name != OUTPUTS_ENTRY:
                    safe.writestr(f"{root}/{name}", _content(source, archive, entry, name))
            safe.writestr(f"{root}/{OUTPUTS_ENTRY}", msgspec.json.encode(outputs))
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise InvalidRequest(f"{source.name} is a damaged archive: {error}") from error


def check_safe(artifact: Path) -> None:
    """Check that `make_safe` wrote an archive; blocks, but reads no weights.

    Raises:
        ModelFailed: it did not, so torch must not load the archive.
    """
    try:
        with zipfile.ZipFile(artifact) as archive:
            root = _root(artifact, archive)
            for entry in archive.infolist():
                name = entry.filename.removeprefix(f"{root}/")
                if _PLAIN.fullmatch(name) is None and archive.read(entry) != _content(artifact, archive, entry, name):
                    raise InvalidRequest(f"{name} differs from the form that registration writes")
    except (InvalidRequest, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise ModelFailed(
            f"the program was not checked at its registration, so it is not loaded: {error}; register it again"
        ) from error


def _root(source: Path, archive: zipfile.ZipFile) -> str:
    """Return the folder that holds every entry: torch looks up names in the folder of the first one, ignoring case."""
    entries = archive.infolist()
    roots = {entry.filename.partition("/")[0] for entry in entries}
    if len(roots) != 1 or len({entry.filename.casefold() for entry in entries}) != len(entries):
        raise InvalidRequest(f"{source.name} has an entry twice, or several programs: write it by torch.export.save")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise InvalidRequest(f"{source.name} is compressed, which torch.export.save never does: register its file")
    return roots.pop()


def _content(source: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> bytes:
    if _EXAMPLES.fullmatch(name):
        return b""
    if _PLAIN.fullmatch(name):
        return archive.read(entry)
    rewrite = rewritten_graph if _GRAPH.fullmatch(name) else rewritten_payloads if _CONFIG.fullmatch(name) else None
    if rewrite is None:
        raise InvalidRequest(f"{source.name} contains {name}, which is not plain data: export the program without it")
    content = archive.read(entry)
    try:
        if rewrite is rewritten_payloads and _says_pickle(msgspec.json.decode(content)):
            raise InvalidRequest(
                f"{source.name}: {name} needs unpickling of tensors or objects, which executes code from the file: "
                "export the program with plain dense tensors"
            )
        return rewrite(content)
    except ValueError as error:  # includes msgspec's errors
        raise InvalidRequest(
            f"{source.name} is refused, since it contains code besides the model: {name}: {error}"
        ) from error


def _says_pickle(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value.get("use_pickle")) or any(_says_pickle(item) for item in value.values())
    return isinstance(value, list) and any(_says_pickle(item) for item in value)
