"""Tests of the queries and migrations, as read from their files."""

from importlib.resources import files

import pytest
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from store.migrate import migrations
from store.sql import load_queries
from store.version import HEAD


def test_head_version_is_newest_migration() -> None:
    assert ScriptDirectory.from_config(migrations()).get_current_head() == HEAD


def test_migrations_refuse_a_downgrade() -> None:
    for revision in ScriptDirectory.from_config(migrations()).walk_revisions():
        with pytest.raises(CommandError, match="restore a backup"):
            revision.module.downgrade()


def test_every_query_has_a_name_and_a_purpose() -> None:
    for file in files("store").joinpath("queries").iterdir():
        queries = load_queries(file.name.removesuffix(".sql"))
        assert queries
        assert all(query and ";" not in query for query in queries.values())
