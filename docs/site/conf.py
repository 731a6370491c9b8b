"""Settings of Sphinx for the manual as a site: `make docs-site`.

The pages are those of `docs/`. The front page, the tutorial and the reference are written from README, code and
documents when a build begins (`pages.py`), so no text exists twice.
"""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE), str(_HERE.parent.parent), str(_HERE.parent.parent / "packages")]

from pages import local_links, write_pages  # noqa: E402  (the path is set above)

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "INFaaS on Kafka"
copyright = "the authors, Apache-2.0"  # noqa: A001  (Sphinx's name)
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_llms_txt"]
exclude_patterns = ["site", "examples"]
html_theme = "furo"
html_title = project
html_show_copyright = False
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
llms_txt_summary = "Model-less inference serving on Apache Kafka: a client names a task and its needs, never a model."
llms_txt_uri_template = "_sources/{docname}{suffix}{sourcelink_suffix}"  # relative: a gateway has the site at /docs
_MARKDOWN_LITERAL: Final = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_COLON: Final = "\0"
suppress_warnings = ["misc.highlighting_failure"]  # Pygments does not know CSV
linkcheck_ignore = [r"http://(localhost|127\.0\.0\.1)\b"]
linkcheck_timeout = 10
linkcheck_retries = 2
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other libraries


def _on_source(app: "Sphinx", page: str, source: list[str]) -> None:
    if Path(app.env.doc2path(page)).suffix == ".md":
        source[0] = local_links(source[0], (Path(app.srcdir) / page).parent)


def _before_napoleon(_app: object, kind: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Change literals of Markdown; hide colons of attributes, before which napoleon expects a type."""
    for at, line in enumerate(lines):
        literal = _MARKDOWN_LITERAL.sub(r"``\1``", line)
        lines[at] = literal.replace(":", _COLON) if kind == "attribute" else literal


def _after_napoleon(_app: object, _kind: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def setup(app: "Sphinx") -> None:
    """Write pages before a build, and change links to files outside the manual."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir)))
    app.connect("source-read", _on_source)
    app.connect("autodoc-process-docstring", _before_napoleon, priority=100)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=900)
