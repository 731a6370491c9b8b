"""Loader of the named queries in `queries/<family>.sql`.

Each query begins with `-- name: x` and one `--` line with its purpose. These files contain all SQL of the running
system, so that it can be reviewed and explained as SQL. Modules look up their queries at import, so a missing name is
an error at start and not at the first use.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)\n(-- .+)\n", re.MULTILINE)


def load_queries(family: str) -> Mapping[str, str]:
    """Load the queries of `queries/<family>.sql` by name.

    Raises:
        ValueError: a name occurs twice, or a query has no line with its purpose.
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
