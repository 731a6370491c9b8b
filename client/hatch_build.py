"""Makes the package `infaas_client` of modules that the application has, when the distribution is built.

    infaas.client  ->  infaas_client, all of its public surface
    infaas.client.*  ->  infaas_client._*
    schemas.*, broker.*, process.*, security.*  ->  infaas_client._schemas.*, ._broker.*, ._process.*, ._security.*

Rules.
* Only what the library imports, directly or not, is taken, each module with its imports renamed and nothing else
  changed: lines stay where they are, and loggers are called `infaas_client...`. What it imports of the application
  beyond these packages fails the build.
* The application serves its metrics, a library has nobody to serve them to, and must not put them into the registry of
  the program that it is in: what is imported of `prometheus_client` is `uncounted.py`.
* A source distribution holds the package as it was made, and is built without the application.
* An editable installation, as a checkout has it, is no copy that ages: `infaas_client` is `infaas.client` there.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE: Final = "infaas_client"
SOURCE: Final = "infaas.client"
RENAMED: Final = {
    "schemas": f"{PACKAGE}._schemas",
    "broker": f"{PACKAGE}._broker",
    "process": f"{PACKAGE}._process",
    "security": f"{PACKAGE}._security",
    "prometheus_client": f"{PACKAGE}._uncounted",
}
"""New names of packages, by the ones that the application imports them under."""
_ALIAS: Final = f'''"""The client library, as this checkout has it."""

from {SOURCE} import *
from {SOURCE} import __all__, __version__
'''


class ClientBuildHook(BuildHookInterface[Any]):
    """Has `infaas_client` made before it is packed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the package; hatchling calls it before it builds a wheel or a source distribution."""
        if (Path(self.root) / PACKAGE).is_dir():  # in a source distribution: hatchling finds it
            return
        self._folder = TemporaryDirectory(prefix="infaas-client-")
        package = Path(self._folder.name) / PACKAGE
        if version == "editable":
            _write(package / "__init__.py", _ALIAS)
        else:
            make_package(Path(self.root).parent, package)
        _write(package / "py.typed", "")
        build_data["force_include_editable" if version == "editable" else "force_include"][str(package)] = PACKAGE


def make_package(application: Path, package: Path) -> None:
    """Write all modules of the library into the folder `package`.

    Args:
        application: the folder that holds the application's packages.
        package: the folder to be.
    """
    for module, path in needed_modules(application).items():
        parts = renamed(module).split(".")[1:]
        target = package.joinpath(*parts)
        is_package = path.name == "__init__.py"
        _write(target / "__init__.py" if is_package else target.with_suffix(".py"), with_renamed_imports(path))
    _write(package / "_uncounted.py", (application / "client" / "uncounted.py").read_text())


def needed_modules(application: Path) -> dict[str, Path]:
    """Find what the library is made of: the file of each module that it imports, directly or not."""
    found: dict[str, Path] = {}
    todo = [SOURCE]
    while todo:
        module = todo.pop()
        path = _file_of(application, module)
        if path is None or module in found or module == SOURCE.partition(".")[0]:
            continue
        found[module] = path
        todo += [*_parents(module), *_imported(path)]
    return dict(sorted(found.items()))


def with_renamed_imports(path: Path) -> str:
    """Read a module, its imports renamed.

    Raises:
        ValueError: it imports in a way that cannot be renamed in its place.
    """
    lines = path.read_text().splitlines(keepends=True)
    for node in ast.walk(ast.parse("".join(lines))):
        if isinstance(node, ast.ImportFrom) and node.module and renamed(node.module) != node.module:
            start = len(lines[node.lineno - 1].encode()[: node.col_offset].decode())
            line = lines[node.lineno - 1]
            old, new = f"from {node.module} import", f"from {renamed(node.module)} import"
            lines[node.lineno - 1] = line[:start] + line[start:].replace(old, new, 1)
        elif isinstance(node, ast.Import) and any(renamed(name.name) != name.name for name in node.names):
            raise ValueError(f"{path}:{node.lineno}: write `from ... import`, the client library renames it")
    return "".join(lines)


def renamed(module: str) -> str:
    """Name of a module in the distribution."""
    if module == SOURCE:
        return PACKAGE
    if module.startswith(f"{SOURCE}."):
        return f"{PACKAGE}._{module.removeprefix(f'{SOURCE}.')}"
    for old, new in RENAMED.items():
        if module == old or module.startswith(f"{old}."):
            return new + module.removeprefix(old)
    return module


def _imported(path: Path) -> Iterator[str]:
    """Names that may be modules, of what a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def _parents(module: str) -> Iterator[str]:
    while module := module.rpartition(".")[0]:
        yield module


def _file_of(application: Path, module: str) -> Path | None:
    """File of a module of the application; None: it is none.

    Raises:
        ValueError: it is one that the library must not import.
    """
    path = application.joinpath(*module.split("."))
    found = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
    if found is not None and module != "infaas" and renamed(module) == module:
        raise ValueError(f"the client library imports {module}, which is not for it: see {SOURCE}")
    return found


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
