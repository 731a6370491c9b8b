"""Tests of the queries and migrations, as read from their files."""

from importlib.resources import files

from alembic.script import ScriptDirectory

from store.migrate import migrations
from store.sql import load_queries
from store.version import HEAD


def test_head_version_is_newest_migration() -> None:
    assert ScriptDirectory.from_config(migrations()).get_current_head() == HEAD


def test_load_queries_reads_every_file() -> None:
    for file in files("store").joinpath("queries").iterdir():
        queries = load_queries(file.name.removesuffix(".sql"))
        assert queries
        assert all(query and ";" not in query for query in queries.values())
