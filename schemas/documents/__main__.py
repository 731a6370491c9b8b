"""`python -m schemas.documents [--check]`: write the generated documents, or list the stale ones."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

from schemas.documents import admin, asyncapi, openapi
from schemas.documents.structs import ROOTS, json_schema

FOLDER: Final = Path(__file__).parent
PAGE: Final = FOLDER.parents[1] / "docs" / "admin.md"
"""Page of the documentation that contains the table of the admin API; it exists only in a checkout."""
_TABLE: Final = re.compile(r"(<!-- endpoints:begin -->\n).*(<!-- endpoints:end -->)", re.DOTALL)


def documents() -> dict[str, dict[str, Any]]:
    """Return all documents by file name."""
    found = {f"{name}.schema.json": json_schema(name) for name in ROOTS}
    return found | {"asyncapi.json": asyncapi.document(), "openapi.json": openapi.document()}


def texts() -> dict[Path, str]:
    """Return the text of each document by its path."""
    found = {FOLDER / name: json.dumps(content, indent=2) + "\n" for name, content in documents().items()}
    return found | {PAGE: _TABLE.sub(rf"\g<1>{admin.table()}\n\g<2>", PAGE.read_text())}


def stale() -> list[Path]:
    """Return the paths of files that are missing, outdated or no longer generated."""
    wanted = texts()
    present = {path: path.read_text() for path in (*FOLDER.glob("*.json"), PAGE)}
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
