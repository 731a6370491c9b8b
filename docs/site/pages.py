"""Pages of the site that are made from other files: the front page, the tutorial, the reference, pages of the root.

They are written below `docs/` where git ignores them.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from reference import cli, http, kafka, settings

_ROOT: Final = Path(__file__).parents[2]
_LINK: Final = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")
_MOVED: Final = {
    "DESIGN.md": "reference/design.md",
    "CONTRIBUTING.md": "reference/contributing.md",
    "CHANGELOG.md": "reference/changelog.md",
    "LICENSE": "reference/licence.md",
    "docker": "reference/docker.md",
    "docker/README.md": "reference/docker.md",
    "docs/explanation/README.md": "explanation/README.md",
    "docs/explanation": "explanation/README.md",
}
"""Pages of the site by their paths in the repository, if these differ."""
_CONTENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "Tutorial": ("tutorial",),
    "How-to guides": (
        "models", "clients", "generation", "openai", "mcp", "jobs", "batch", "rollout", "operation", "console",
        "tracing", "security", "admin",
        "traces", "catalogue", "simulation", "reference/docker",
    ),
    "Reference": (
        "reference/cli", "reference/client", "reference/http", "reference/grpc", "reference/kafka",
        "reference/settings", "glossary", "invariants", "testing", "reference/changelog", "reference/licence",
    ),
    "Explanation": ("explanation/README", "reference/design", "explanation/*", "reference/contributing"),
    "Figures": (
        "benchmarks", "variants", "peers/servers", "systems", "selectors", "losses", "ablation", "calibration",
        "dashboard",
    ),
}  # fmt: skip
"""Pages by chapter of the table of contents; every page must be in one."""
_GRPC: Final = "# gRPC\n\nThe services of the gateway ([how](../clients.md#grpc)).\n\n"
_CLIENT: Final = """# Client library

```{eval-rst}
.. automodule:: infaas.client
   :members:
   :imported-members:
```
"""


def write_pages(docs: Path) -> None:
    """Write the pages that are made from other files."""
    readme = (_ROOT / "README.md").read_text()
    intro, _, rest = readme.partition("## Two commands")
    tutorial = "# Tutorial\n\n## Two commands" + rest[: rest.index("## The command line")]
    proto = (_ROOT / "gateway/grpc/inference.proto").read_text()
    pages = {
        "index.md": _moved(intro, docs) + _tables_of_contents(),
        "tutorial.md": _moved(tutorial, docs),
        "reference/cli.md": cli.page(),
        "reference/client.md": _CLIENT,
        "reference/http.md": http.page(),
        "reference/kafka.md": kafka.page(),
        "reference/settings.md": settings.page(),
        "reference/grpc.md": f"{_GRPC}```proto\n{proto}```\n",
        "reference/licence.md": f"# Licence\n\n```text\n{(_ROOT / 'LICENSE').read_text()}```\n",
    }
    for source, target in _MOVED.items():
        if source.endswith(".md") and target.startswith("reference/"):
            pages[target] = _moved((_ROOT / source).read_text(), (docs / target).parent, (_ROOT / source).parent)
    for name, text in pages.items():
        file = docs / name
        file.parent.mkdir(exist_ok=True)
        if not file.exists() or file.read_text() != text:
            written = file.with_suffix(f".{os.getpid()}")
            written.write_text(text)
            written.replace(file)  # at once: another build may read it


def local_links(text: str, folder: Path, source: Path | None = None) -> str:
    """Change the links of a page in `folder` that lead out of the manual; those of `source` if it was moved from there.

    A link to a file of code becomes its path, since the site has no copy of the code.
    """

    def changed(found: re.Match[str]) -> str:
        image, words, path, anchor = found.groups()
        file = ((source or folder) / path).resolve()
        if not file.is_relative_to(_ROOT):
            return found[0]
        name = file.relative_to(_ROOT).as_posix()
        if name in _MOVED:
            file = _ROOT / "docs" / _MOVED[name]
        elif file.is_relative_to(_ROOT / "docs") and file.suffix in (".md", ".svg", ".png"):
            if source is None:
                return found[0]
        else:
            return words if words.strip("`") == name else f"{words} (`{name}`)"
        return f"{image}[{words}]({os.path.relpath(file, folder)}{anchor or ''})"

    return _LINK.sub(changed, text)


def _moved(text: str, folder: Path, source: Path = _ROOT) -> str:
    return local_links(text, folder, source)


def _tables_of_contents() -> str:
    return "".join(
        f"\n```{{toctree}}\n:caption: {chapter}\n:hidden:\n:glob:\n\n" + "\n".join(pages) + "\n```\n"
        for chapter, pages in _CONTENTS.items()
    )
