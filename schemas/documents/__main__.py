"""`python -m schemas.documents [--check]`: write the documents, or say which are stale."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from schemas.documents import asyncapi, openapi
from schemas.documents.structs import ROOTS, json_schema

FOLDER: Final = Path(__file__).parent


def documents() -> dict[str, dict[str, Any]]:
    """All documents by file name."""
    found = {f"{name}.schema.json": json_schema(name) for name in ROOTS}
    return found | {"asyncapi.json": asyncapi.document(), "openapi.json": openapi.document()}


def texts() -> dict[str, str]:
    """Text of each document by file name."""
    return {name: json.dumps(content, indent=2) + "\n" for name, content in documents().items()}


def stale() -> list[str]:
    """Names of the files that are not as the code says."""
    wanted = texts()
    present = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    return sorted(name for name in wanted | present if wanted.get(name) != present.get(name))


def main() -> int:
    """Write the documents, or check them with `--check`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m schemas.documents", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a document is stale")
    if parser.parse_args().check:
        found = stale()
        if found:
            print(f"stale: {', '.join(found)}; run `make docs` and commit them", file=sys.stderr)
        return 1 if found else 0
    for name in stale():
        path = FOLDER / name
        if name in texts():
            path.write_text(texts()[name])
        else:
            path.unlink()
        print(f"wrote {path}" if path.exists() else f"removed {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
