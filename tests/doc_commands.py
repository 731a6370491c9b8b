"""The blocks of shell commands in the documentation: their text, and the commands of `infaas` in them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_COPIES = (ROOT / "docs/index.md", ROOT / "docs/tutorial.md")
"""Pages of the site that are made from others."""
PAGES = [
    *sorted({*ROOT.glob("docs/*.md"), *ROOT.glob("docs/explanation/*.md")}.difference(_COPIES)),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docker/README.md")),
]
"""Pages with commands."""


class Block(NamedTuple):
    """A block of shell commands of a page."""

    page: str
    number: int
    """Its place among those of the page, from 0."""
    text: str

    @property
    def name(self) -> str:
        """Page and number."""
        return f"{self.page}#{self.number}"

    def commands(self) -> list[list[str]]:
        """Return the words of each command of `infaas`, without `infaas`."""
        lexer = shlex.shlex(re.sub(r"\\\n|(^|\s)#.*", " ", self.text), posix=True, punctuation_chars=";&|\n")
        lexer.whitespace, lexer.whitespace_split = " \t", True
        found: list[list[str]] = [[]]
        for word in lexer:
            if set(word) <= set(";&|\n"):
                found.append([])
            elif found[-1] or not re.match(r"\w+=", word):  # variables before a command are not part of it
                found[-1].append(word)
        ours = [words for words in found if "infaas" in words and words[0] in ("infaas", "docker")]
        return [words[words.index("infaas") + 1 :] for words in ours]


BLOCKS = [
    Block(page.relative_to(ROOT).as_posix(), number, text)
    for page in PAGES
    for number, text in enumerate(re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
]


def block(name: str) -> str:
    """Return the text of a block by its name."""
    return next(one.text for one in BLOCKS if one.name == name)
