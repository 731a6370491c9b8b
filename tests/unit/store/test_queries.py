"""Tests of the queries and migrations, as read from their files."""

import re
from importlib.resources import files
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from alembic.util import CommandError

import store
from store.migrate import HEAD, migrations
from store.pool import load_queries

_FAMILIES = [file.name.removesuffix(".sql") for file in files("store").joinpath("queries").iterdir()]
_MODULES = [path for path in Path(store.__path__[0]).glob("*.py") if "load_queries(" in path.read_text()]


def test_head_version_is_newest_migration() -> None:
    assert ScriptDirectory.from_config(migrations()).get_current_head() == HEAD


def test_migrations_refuse_a_downgrade() -> None:
    for revision in ScriptDirectory.from_config(migrations()).walk_revisions():
        with pytest.raises(CommandError, match="restore a backup"):
            revision.module.downgrade()


@pytest.mark.parametrize("family", _FAMILIES)
def test_every_query_has_a_name_and_a_purpose(family: str) -> None:
    queries = load_queries(family)
    assert queries
    assert all(query and ";" not in query for query in queries.values())


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: path.stem)
def test_every_looked_up_query_exists(path: Path) -> None:
    text = path.read_text()
    for name, family in re.findall(r'^(\w+)(?:: Final)? = load_queries\("(\w+)"\)$', text, re.MULTILINE):
        assert set(re.findall(rf'\b{name}\["(\w+)"\]', text)) <= load_queries(family).keys()
