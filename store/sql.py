"""Loads the named queries of `queries/<family>.sql`.

Each query there begins with `-- name: x` and one `--` line that says what it is for. All SQL of the running system is
in those files, so that it can be read, explained and reviewed as SQL. Modules look their queries up while they are
imported: a name that does not exist fails at start, not at the first use.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)\n(-- .+)\n", re.MULTILINE)


def load_queries(family: str) -> Mapping[str, str]:
    """Load the queries of `queries/<family>.sql` by name.

    Raises:
        ValueError: a name is there twice, or a query has no line that says what it is for.
    """
    text = files("store").joinpath("queries", f"{family}.sql").read_text(encoding="utf-8")
    _head, *parts = _NAME.split(text)
    queries: dict[str, str] = {}
    for name, _purpose, body in zip(parts[0::3], parts[1::3], parts[2::3], strict=True):
        if name in queries:
            raise ValueError(f"{family}.sql has two queries named {name}")
        queries[name] = body.strip()
    if len(queries) != text.count("-- name:"):
        raise ValueError(f"{family}.sql has a query without a `-- purpose` line after its name")
    return queries
