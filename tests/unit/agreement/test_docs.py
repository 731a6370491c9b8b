"""Tests of the documentation: the terms, files and environment variables that it names exist."""

import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from autoscaler.launchers.kubernetes import KubernetesSettings
from autoscaler.launchers.ray.launcher import RaySettings
from autoscaler.settings import AutoscalerSettings
from broker.kafka.settings import KafkaSettings, ReplyStreamSettings
from gateway.jobs.settings import JobsSettings
from gateway.settings import GatewaySettings
from process.command_line import settings_variables
from process.signing import SigningSettings
from registry.artifact_settings import ArtifactSettings
from registry.service.settings import RegistrarSettings
from selector.settings import SelectorSettings
from store.settings import StoreSettings
from workers.settings import WorkerSettings

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())
PACKAGES = [init.parent for init in ROOT.glob("*/__init__.py") if init.parent.name != "tests"]
CODE = "\n".join(
    file.read_text() for folder in PACKAGES for kind in ("py", "sql") for file in folder.rglob(f"*.{kind}")
)
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


def words_of(text: str) -> str:
    """Return the words of a text in lower case, with identifiers split into their words."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    return " ".join(re.findall(r"[a-z0-9]+", apart.lower()))


def terms_of(glossary: str) -> list[str]:
    """Return the terms in the first column of the glossary's tables, without their links."""
    rows = re.findall(r"^\| \[?([^|\]]+?)(?:\]\([^)]*\))? \| ", glossary, re.MULTILINE)
    return [row for row in rows if row != "term"]


def links_of(document: str) -> set[str]:
    """Return the files to which a Markdown document links, as written there; links within code do not count."""
    prose = re.sub(r"^```.*?^```", "", document, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "code", prose)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return {target.partition("#")[0] for target in targets if not re.match(r"#|[a-z]+:", target)}


def anchors_of(document: str) -> set[str]:
    """Return the anchors of a Markdown document's headings, as GitHub and the site make them."""
    prose = re.sub(r"^```.*?^```", "", document, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", prose), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def section_of(document: str, anchor: str) -> str:
    """Return the section of a Markdown document below a heading, with its subsections; all of it without an anchor."""
    found, depth = list[str](), 0
    for line in document.splitlines():
        marks = len(line) - len(line.lstrip("#"))
        if marks and depth and marks <= depth:
            break
        if marks and not depth and (not anchor or anchor in anchors_of(line)):
            depth = marks
        if depth:
            found.append(line)
    return "\n".join(found)


def missing_anchors(document: Path) -> set[str]:
    """Return the links of a document to anchors that their Markdown document lacks."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s:]*)#([^)\s]+)\)", re.sub(r"`[^`\n]*`", "code", prose))
    pages = {name: document.parent / name if name else document for name, _ in targets}
    return {
        f"{name}#{anchor}"
        for name, anchor in targets
        if pages[name].suffix == ".md" and anchor not in anchors_of(pages[name].read_text())
    }


WORDS = words_of(CODE)
GLOSSARY = ROOT / "docs/glossary.md"
TERMS = terms_of(GLOSSARY.read_text())
VARIABLES = {name for settings in SETTINGS for name, _ in settings_variables(settings)} | set(
    re.findall(r'"(INFAAS_\w+)"', CODE)
)


def test_words_of_splits_identifiers() -> None:
    assert words_of("class BatchQueue: max_in_flight, HTTPServer") == "class batch queue max in flight http server"


def test_terms_of_reads_first_column() -> None:
    rows = "| term | meaning |\n|---|---|\n| [topic](x.md#y) | as in | Kafka |\n| old lag | text |\ntext"
    assert terms_of(rows) == ["topic", "old lag"]


def test_section_of_ends_at_the_next_heading_of_its_level() -> None:
    text = "# Page\na\n## One\nb\n### Part\nc\n## Two\nd"
    assert section_of(text, "one") == "## One\nb\n### Part\nc"
    assert section_of(text, "") == text
    assert section_of(text, "three") == ""


def test_links_of_returns_files_only() -> None:
    text = "[`a`](x.md#y), ![b\nc](d/) [e](https://f.g) [h](#i) `[j](k)`\n```\n[l](m)\n```\n[n](../o)"
    assert links_of(text) == {"x.md", "d/", "../o"}


def test_anchors_of_returns_slugs_of_headings() -> None:
    text = "# The console\n## p50, `p99` [and](x.md) so on: 2\n```\n# a comment\n```\ntext"
    assert anchors_of(text) == {"the-console", "p50-p99-and-so-on-2"}


def test_missing_anchors_finds_links_to_no_heading(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("## Here\n")
    (tmp_path / "page.md").write_text(
        "# Own\n[a](#own) [b](#gone) [c](other.md#here) [d](other.md#there) [e](http://x#y)"
    )
    assert missing_anchors(tmp_path / "page.md") == {"#gone", "other.md#there"}


def test_documents_have_terms_and_links() -> None:
    assert len(TERMS) > 60
    assert len(INVARIANTS) > 15
    assert len(PACKAGES) > 10
    assert sum(len(links_of(document.read_text())) for document in DOCUMENTS) > 50


@pytest.mark.parametrize("term", TERMS)
def test_glossary_term_occurs_in_code(term: str) -> None:
    assert re.search(rf"\b{words_of(term)}s?\b", WORDS), "no code uses it: take it out, or use it"


@pytest.mark.parametrize("term", TERMS)
def test_glossary_term_links_to_a_section_that_uses_it(term: str) -> None:
    link = re.search(rf"^\| \[{term}\]\(([^)#]*)#?([^)]*)\) \| ", GLOSSARY.read_text(), re.MULTILINE)
    assert link is not None, "no section explains it: link to one, or take the term out"
    section = words_of(section_of((GLOSSARY.parent / link[1]).read_text(), link[2]))
    assert re.search(rf"\b{words_of(term)}(s|es)?\b", section), f"{link[1]}#{link[2]} does not use it"


def test_glossary_defines_each_term_once() -> None:
    assert sorted(TERMS) == sorted(set(TERMS))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_links_to_existing_files(document: Path) -> None:
    assert {link for link in links_of(document.read_text()) if not (document.parent / link).exists()} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_links_to_existing_anchors(document: Path) -> None:
    assert missing_anchors(document) == set()


INVARIANTS = re.findall(r"^\| \*\*.+", (ROOT / "docs/invariants.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("row", INVARIANTS, ids=lambda row: words_of(row.split("**")[1]).replace(" ", "-"))
def test_invariant_names_tests(row: str) -> None:
    assert "::" in row, "no test tries to break it"


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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_names_known_environment_variables(document: Path) -> None:
    named = {name.partition("__")[0] for name in re.findall(r"\bINFAAS_[A-Z][A-Z_]*[A-Z]\b", document.read_text())}
    assert named - VARIABLES == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_names_existing_files(document: Path) -> None:
    named = re.findall(r"`([\w.-]+(?:/[\w.-]+)+\.(?:py|md|lock|json|yaml|toml))`", document.read_text())
    assert {name for name in named if not (ROOT / name).exists() and not (document.parent / name).exists()} == set()
