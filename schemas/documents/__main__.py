"""`python -m schemas.documents [--check]`: write the generated documents, or list the stale ones."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

from schemas.documents import admin, asyncapi, components, openapi
from schemas.documents.components import ROOTS, json_schema

FOLDER: Final = Path(__file__).parent
_DOCS: Final = FOLDER.parents[1] / "docs"
"""Folder of the documentation; it exists only in a checkout."""
PAGE: Final = _DOCS / "admin.md"
"""Page that contains the table of the admin API."""
_TABLES: Final = {PAGE: ("endpoints", admin.table), _DOCS / "clients.md": ("reasons", components.reason_table)}
"""Name and content of the generated table of each page."""


def documents() -> dict[str, dict[str, Any]]:
    """Return all documents by file name."""
    found = {f"{name}.schema.json": json_schema(name) for name in ROOTS}
    return found | {"asyncapi.json": asyncapi.document(), "openapi.json": openapi.document()}


def texts() -> dict[Path, str]:
    """Return the text of each document by its path."""
    found = {FOLDER / name: json.dumps(content, indent=2) + "\n" for name, content in documents().items()}
    return found | {page: _with_table(page, name, table()) for page, (name, table) in _TABLES.items()}


def _with_table(page: Path, name: str, table: str) -> str:
    place = re.compile(rf"(<!-- {name}:begin -->\n).*(<!-- {name}:end -->)", re.DOTALL)
    return place.sub(rf"\g<1>{table}\n\g<2>", page.read_text())


def stale() -> list[Path]:
    """Return the paths of files that are missing, outdated or no longer generated."""
    wanted = texts()
    present = {path: path.read_text() for path in (*FOLDER.glob("*.json"), *_TABLES)}
    return sorted(path for path in wanted | present if wanted.get(path) != present.get(path))


def main() -> int:
    """Write the documents, or check them with `--check`; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m schemas.documents", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a document is stale")
    if parser.parse_args().check:
        found = stale()
        if found:
            print(f"stale: {', '.join(path.name for path in found)}; run `make docs` and commit them", file=sys.stderr)
        return 1 if found else 0
    for path in stale():
        if path in texts():
            path.write_text(texts()[path])
        else:
            path.unlink()
        print(f"wrote {path}" if path.exists() else f"removed {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
