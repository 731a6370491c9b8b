"""Tests of the documentation: the links, files, tests, variables and commands that it names exist."""

import ast
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic_settings import BaseSettings

from autoscaler.launchers.kubernetes import KubernetesSettings
from autoscaler.launchers.ray.launcher import RaySettings
from autoscaler.settings import AutoscalerSettings
from broker.kafka.settings import KafkaSettings, ReplyStreamSettings
from gateway.jobs.settings import JobsSettings
from gateway.settings import GatewaySettings
from infaas.cli.main import app
from infaas.client.client import QueryOptions
from process.command_line import settings_variables
from process.signing import SigningSettings
from registry.artifact_settings import ArtifactSettings
from registry.service.settings import RegistrarSettings
from schemas import headers as h
from schemas.cloudevents import ATTRIBUTES
from schemas.documents import components
from selector.settings import SelectorSettings
from store.settings import StoreSettings
from tests.doc_commands import BLOCKS, ROOT, Block, inline_code
from workers.settings import WorkerSettings

PACKAGES = [init.parent for init in ROOT.glob("*/__init__.py") if init.parent.name != "tests"]
CODE = "\n".join(file.read_text() for folder in PACKAGES for file in folder.rglob("*.py"))
GENERATED = (ROOT / "docs/reference", ROOT / "docs/index.md", ROOT / "docs/tutorial.md")
DOCUMENTS = [
    document
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docker/*.md")]
    if not any(document.is_relative_to(path) for path in GENERATED)
]
SETTINGS: tuple[type[BaseSettings], ...] = (
    *(AutoscalerSettings, GatewaySettings, JobsSettings, RegistrarSettings, SelectorSettings, WorkerSettings),
    *(ArtifactSettings, KafkaSettings, ReplyStreamSettings, SigningSettings, StoreSettings),
    *(KubernetesSettings, RaySettings),
)
VARIABLES = {name for settings in SETTINGS for name, _ in settings_variables(settings)} | set(
    re.findall(r'"(INFAAS_\w+)"', CODE)
)
INLINE, COMPOSE = inline_code("infaas"), inline_code("docker compose")


def prose_of(document: Path) -> str:
    return re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors_of(document: Path) -> set[str]:
    """Return the anchors of a Markdown document's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", prose_of(document)), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_links_to_existing_files_and_anchors(document: Path) -> None:
    text, broken = re.sub(r"`[^`\n]*`", "code", prose_of(document)), set[str]()
    for name, anchor in re.findall(r"\]\((?![a-z]+:)([^)\s#]*)#?([^)\s]*)\)", text):
        target = document.parent / name if name else document
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors_of(target)):
            broken.add(f"{name}#{anchor}")
    named = re.findall(r"`([\w.-]+(?:/[\w.-]+)+\.(?:py|md|lock|json|yaml|toml))`", document.read_text())
    broken |= {name for name in named if not (ROOT / name).exists() and not (document.parent / name).exists()}
    assert broken == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_names_existing_tests(document: Path) -> None:
    """A name after `::` alone is in the file named before it; a file is named by the end of its path."""
    file, missing = "", list[str]()
    for named, name in re.findall(r"`([\w/]*(?:\.py)?)::(\w+)`", document.read_text()):
        file = named or file
        texts = [path.read_text() for path in (ROOT / "tests").rglob(Path(file).name) if path.match(file)]
        if not any(re.search(rf"^(async )?def {name}\(|^{name} = ", text, re.MULTILINE) for text in texts):
            missing.append(f"{file}::{name}")
    assert missing == []


def test_each_invariant_has_code_and_tests_of_a_suite() -> None:
    promised = re.findall(r"^\* \*\*(.+?)\*\*", (ROOT / "docs/invariants.md").read_text(), re.MULTILINE)
    rows = re.findall(
        r"^\| \*\*(.+?)\*\* \| (.+) \| (.+) \| (\w+) \|$", (ROOT / "docs/testing.md").read_text(), re.MULTILINE
    )
    assert len(promised) > 15
    assert [promise for promise, *_ in rows] == promised
    for _, code, tests, suite in rows:
        assert all((ROOT / file).is_file() for file in re.findall(r"`(.+?)`", code))
        suites = {_suite_of(*test) for test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)}
        assert suite == ("contract" if "contract" in suites else "needs")


def _suite_of(file: str, name: str) -> str:
    text = (ROOT / file).read_text()
    (found,) = (
        node
        for node in ast.parse(text).body
        if getattr(node, "name", "") == name or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name)
    )
    marks = [ast.unparse(one) for one in getattr(found, "decorator_list", [])]
    marks += re.findall(r"^pytestmark = .*$", text, re.MULTILINE)
    return "needs" if any(".needs_" in mark for mark in marks) else "contract"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_names_known_environment_variables(document: Path) -> None:
    named = {name.partition("__")[0] for name in re.findall(r"\bINFAAS_[A-Z][A-Z_]*[A-Z]\b", document.read_text())}
    assert named - VARIABLES == set()


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.commands()], ids=lambda block: block.name)
def test_documented_commands_parse(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command, group, argument and option exists, and the values have the right types; nothing is executed."""
    monkeypatch.chdir(tmp_path)
    whole: Any = typer.main.get_command(app)

    def not_executed(*_: object, **_options: object) -> None:
        pass

    monkeypatch.setattr(type(whole.make_context("infaas", ["status"])), "invoke", not_executed)
    for words in block.commands():
        for file in (word for word in words if re.fullmatch(r"[\w-]+(\.\w+)+", word)):
            Path(file).touch()
        whole.main(args=[word for word in words if word != "..."], standalone_mode=False)


@pytest.mark.parametrize("command", INLINE)
def test_inline_command_and_its_options_exist(command: str) -> None:
    """The group, the command and each option exist; arguments may be left out in prose."""
    words = shlex.split(command)[1:]
    found: Any = typer.main.get_command(app)
    while (commands := getattr(found, "commands", None)) and words and not words[0].startswith("-"):
        found = commands.get(words.pop(0))
        assert found is not None, f"{INLINE[command]}: there is no such command"
    known = {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}
    named = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert named - known - {"--help"} == set(), INLINE[command]


def test_inline_compose_commands_name_file_and_profiles() -> None:
    services: Any = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
    options = {pair for command in COMPOSE for pair in pairwise(shlex.split(command))}
    assert {name for option, name in options if option == "-f"} == {"docker/compose.yaml"}
    assert {name for option, name in options if option == "--profile"} <= profiles


def test_admin_page_lists_each_command_once() -> None:
    _, _, table = (ROOT / "docs/admin.md").read_text().partition("| commands | need |")
    lines = table.partition("\n\n")[0].splitlines()
    named = [name for line in lines for name in re.findall(r"`([a-z-]+)`", line.split("|")[1] if "|" in line else "")]
    whole: Any = typer.main.get_command(app)
    assert sorted(named) == sorted(whole.commands)


def test_needs_same_in_client_events_and_documents() -> None:
    assert h.NEEDS.keys() <= QueryOptions.__annotations__.keys()
    assert set(h.NEEDS.values()) <= set(ATTRIBUTES.values())
    assert components.NEEDS.keys() == {h.DEADLINE_MS, *h.NEEDS.values()}
