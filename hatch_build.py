"""Build hook of the wheels: puts all packages of a project into one, so that no generic name lands in site-packages.

    selector.policy  ->  infaas.selector.policy
    infaas.client    ->  infaas.client
    zoo.samples      ->  infaas_zoo.samples

Rules.
* Only imports of our packages are renamed, so line numbers stay the same. Code that needs the name of a module as a
  string gets it from `process.module_names`.
* An editable installation has no package of its own: it puts the folder with the sources on the path.
"""

import ast
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CORE: Final = "infaas"
ZOO: Final = "infaas_zoo"
_LEFT_OUT: Final = shutil.ignore_patterns("__pycache__", "pyproject.toml")


class OnePackageHook(BuildHookInterface[Any]):
    """Hatchling hook that makes the one package of a wheel. Its configuration names the package and its sources."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the package. Hatchling calls this before it builds a wheel."""
        if version == "editable":
            return
        self._folder = TemporaryDirectory(prefix="infaas-wheel-")
        package: str = self.config["package"]
        sources: dict[str, str] = self.config.get("sources") or {name: name for name in self.config["packages"]}
        make_package({name: Path(self.root, path).resolve() for name, path in sources.items()}, Path(self._folder.name))
        build_data["force_include"][str(Path(self._folder.name) / package)] = package
        manual = Path(self.root, "build", "site")  # of `make docs-site`
        if package == CORE and (manual / "index.html").is_file():
            build_data["force_include"][str(manual)] = f"{package}/manual"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the package that `initialize` made. Hatchling calls this after it has built a wheel."""
        if version != "editable":
            self._folder.cleanup()


def make_package(sources: dict[str, Path], folder: Path) -> None:
    """Write the packages of `sources`, by their import names, into one package in `folder`.

    Raises:
        ValueError: an import cannot be renamed in place.
    """
    ours = {*sources, "zoo"}

    def renamed(module: str) -> str:
        first, _, rest = module.partition(".")
        if first not in ours or first == CORE:
            return module
        return f"{ZOO}.{rest}".rstrip(".") if first == "zoo" else f"{CORE}.{module}"

    for name, source in sources.items():
        target = folder.joinpath(*renamed(name).split("."))
        shutil.copytree(source, target, ignore=_LEFT_OUT, dirs_exist_ok=True)
    for path in folder.rglob("*.py"):
        path.write_text(with_renamed_imports(path, renamed))


def with_renamed_imports(path: Path, renamed: Callable[[str], str]) -> str:
    """Return the source of a module whose imports are renamed.

    Raises:
        ValueError: an import cannot be renamed in place.
    """
    lines = path.read_text().splitlines(keepends=True)
    for node in ast.walk(ast.parse("".join(lines))):
        if isinstance(node, ast.ImportFrom) and node.module and renamed(node.module) != node.module:
            start = len(lines[node.lineno - 1].encode()[: node.col_offset].decode())
            line = lines[node.lineno - 1]
            old, new = f"from {node.module} import", f"from {renamed(node.module)} import"
            lines[node.lineno - 1] = line[:start] + line[start:].replace(old, new, 1)
        elif isinstance(node, ast.Import) and any(renamed(name.name) != name.name for name in node.names):
            raise ValueError(f"{path}:{node.lineno}: write `from ... import`, which can be renamed")
    return "".join(lines)
