"""Tests of the build of the client's distribution: its modules, dependencies and renamed imports."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

from client.hatch_build import needed_modules, renamed, with_renamed_imports

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "packages" / "client" / "pyproject.toml").read_text())["project"]


def test_client_imports_only_declared_dependencies() -> None:
    named = {text.partition(">=")[0].partition("[")[0].replace("-", "_") for text in PROJECT["dependencies"]}
    brought = {"cramjam", "pydantic"}  # dependencies of aiokafka's extras and of pydantic-settings
    assert _imported(needed_modules(ROOT)) == named | brought
    assert len(named) <= 7, "few"


def test_client_dependencies_not_newer_than_application() -> None:
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    versions = {text.partition(">=")[0]: text.partition(">=")[2].partition(",")[0] for text in ours}
    for text in PROJECT["dependencies"]:
        name, _, version = text.partition(">=")
        least = version.partition(",")[0]
        assert tuple(map(int, least.split("."))) <= tuple(map(int, versions[name].split("."))), text


def test_with_renamed_imports_keeps_positions(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        '"""Says schemas.errors, and from schemas import nothing."""\n'
        "import aiokafka.client\n"
        "from schemas import headers as h\n"
        "from schemas.errors import (\n    InvalidRequest,\n)\n"
        "from infaas.client.client import Answer\n"
        "from infaas.client import InfaasClient\n"
        "from prometheus_client import Counter\n"
        "if h: from broker.clock import BrokerClock; é = 'from broker.clock import BrokerClock'\n"
        "from schemas_of_yours import errors\n"
    )
    assert with_renamed_imports(module).splitlines()[1:] == [
        "import aiokafka.client",
        "from infaas_client._schemas import headers as h",
        "from infaas_client._schemas.errors import (",
        "    InvalidRequest,",
        ")",
        "from infaas_client._client import Answer",
        "from infaas_client import InfaasClient",
        "from infaas_client._no_metrics import Counter",
        "if h: from infaas_client._broker.clock import BrokerClock; é = 'from broker.clock import BrokerClock'",
        "from schemas_of_yours import errors",
    ]


def test_with_renamed_imports_rejects_plain_import(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("import broker.clock\n")
    with pytest.raises(ValueError, match=r"module\.py:1: write `from \.\.\. import`"):
        with_renamed_imports(module)


def test_needed_modules_rejects_service_imports(tmp_path: Path) -> None:
    for name, text in {"infaas/client": "from store.pool import Pool\n", "store": ""}.items():
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(text)
    (tmp_path / "store" / "pool.py").write_text("")
    with pytest.raises(ValueError, match=r"imports store\.pool"):
        needed_modules(tmp_path)


def _imported(modules: dict[str, Path]) -> set[str]:
    """Return the top-level packages of other distributions that these modules import."""
    found = set[str]()
    for path in modules.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and renamed(node.module) == node.module:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names)
