"""Build hook that makes the package `infaas_client` from modules of the application.

    infaas.client  ->  infaas_client, the whole public interface
    infaas.client.*  ->  infaas_client._*
    schemas.*, broker.*, process.*  ->  infaas_client._schemas.*, ._broker.*, ._process.*

Rules.
* The package contains the modules that the library imports directly or indirectly. Only their imports are renamed: line
  numbers stay the same, and loggers are named `infaas_client...`. An import of any other package of the application
  fails the build.
* A library must not add metrics to the registry of the program that uses it. So `no_metrics.py` replaces
  `prometheus_client`.
* A source distribution contains the finished package and is built without the application.
* In an editable installation, `infaas_client` is an alias of `infaas.client`, so that it is never out of date.
"""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE: Final = "infaas_client"
SOURCE: Final = "infaas.client"
RENAMED: Final = {
    "schemas": f"{PACKAGE}._schemas",
    "broker": f"{PACKAGE}._broker",
    "process": f"{PACKAGE}._process",
    "prometheus_client": f"{PACKAGE}._no_metrics",
}
"""New names of packages by their import names in the application."""
_ALIAS: Final = f'''"""The client library, as this checkout has it."""

from {SOURCE} import *
from {SOURCE} import __all__, __version__
'''


class ClientBuildHook(BuildHookInterface[Any]):
    """Hatchling hook that makes `infaas_client` before it is packed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the package. Hatchling calls this before it builds a wheel or a source distribution."""
        if (Path(self.root) / PACKAGE).is_dir():  # a source distribution: hatchling finds the package
            return
        self._folder = TemporaryDirectory(prefix="infaas-client-")
        package = Path(self._folder.name) / PACKAGE
        if version == "editable":
            _write(package / "__init__.py", _ALIAS)
        else:
            make_package(Path(self.root).parents[1], package)
        _write(package / "py.typed", "")
        build_data["force_include_editable" if version == "editable" else "force_include"][str(package)] = PACKAGE


def make_package(application: Path, package: Path) -> None:
    """Write all modules of the library into the folder `package`.

    Args:
        application: folder with the application's packages.
        package: folder to create.
    """
    for module, path in needed_modules(application).items():
        parts = renamed(module).split(".")[1:]
        target = package.joinpath(*parts)
        is_package = path.name == "__init__.py"
        _write(target / "__init__.py" if is_package else target.with_suffix(".py"), with_renamed_imports(path))
    _write(package / "_no_metrics.py", (application / "packages" / "client" / "no_metrics.py").read_text())


def needed_modules(application: Path) -> dict[str, Path]:
    """Return the modules that the library imports, directly or indirectly, with their files."""
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
    """Return the source of a module with renamed imports.

    Raises:
        ValueError: an import cannot be renamed in place.
    """
    return _core().with_renamed_imports(path, renamed)


@cache
def _core() -> ModuleType:
    """Return the build hook of the application, whose folder is not on the import path of a build."""
    place = Path(__file__).parents[2] / "hatch_build.py"
    spec = spec_from_file_location("hatch_build_of_core", place)
    if spec is None or spec.loader is None:
        raise ValueError(f"{place} is not a module")
    core = module_from_spec(spec)
    spec.loader.exec_module(core)
    return core


def renamed(module: str) -> str:
    """Return the name of a module in the distribution."""
    if module == SOURCE:
        return PACKAGE
    if module.startswith(f"{SOURCE}."):
        return f"{PACKAGE}._{module.removeprefix(f'{SOURCE}.')}"
    for old, new in RENAMED.items():
        if module == old or module.startswith(f"{old}."):
            return new + module.removeprefix(old)
    return module


def _imported(path: Path) -> Iterator[str]:
    """Yield the names in a module's imports that may be modules."""
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
    """Return the file of a module of the application; None for other modules.

    Raises:
        ValueError: the module belongs to the application, but not to the library.
    """
    path = application.joinpath(*module.split("."))
    found = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
    if found is not None and module != "infaas" and renamed(module) == module:
        raise ValueError(f"the client library imports {module}, which is not for it: see {SOURCE}")
    return found


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
