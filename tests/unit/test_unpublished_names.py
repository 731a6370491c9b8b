"""Tests of the unpublished names of aiokafka and aiohttp that the project uses.

This is the only list of them. `pyproject.toml` pins both packages below the next minor version; a version that lacks a
name fails here first.
"""

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest

from gateway.http.connection import HttpConnection

ROOT: Final = Path(__file__).parents[2]
PUBLISHED: Final = {
    *("aiokafka", "aiokafka.abc", "aiokafka.admin", "aiokafka.errors", "aiokafka.helpers", "aiokafka.structs"),
    *("aiohttp", "aiohttp.abc", "aiohttp.test_utils", "aiohttp.typedefs", "aiohttp.web"),
}
"""Modules in the reference documentation of the packages."""
MODULES: Final[dict[str, set[str]]] = {
    "aiohttp.helpers": {"rfc822_formatted_time"},
    "aiohttp.http": {"RawRequestMessage"},
    "aiokafka.client": {"AIOKafkaClient", "CoordinationType"},
    "aiokafka.cluster": {"ClusterMetadata"},
    "aiokafka.codec": {"snappy_decode"},
    "aiokafka.conn": {"AIOKafkaConnection", "create_conn"},
    "aiokafka.partitioner": {"murmur2"},
    "aiokafka.protocol.admin": {"SaslAuthenticateRequest"},
    "aiokafka.protocol.api": {"RequestStruct", "Response"},
    "aiokafka.protocol.commit": {"OffsetCommitRequest", "OffsetFetchRequest"},
    "aiokafka.protocol.group": {"JoinGroupRequest", "SyncGroupRequest"},
    "aiokafka.protocol.metadata": {"MetadataRequest"},
    "aiokafka.protocol.offset": {"OffsetRequest"},
    "aiokafka.protocol.struct": {"Struct"},
    "aiokafka.protocol.transaction": {"InitProducerIdRequest"},
    "aiokafka.protocol.types": {"Array", "Bytes", "Int16", "Int32", "Schema", "String"},
    "aiokafka.record.default_records": {"DefaultRecordBatchBuilder"},
    "aiokafka.record.memory_records": {"MemoryRecords"},
    "aiokafka.record.util": {"decode_varint"},
}
"""Names imported from undocumented modules, by module."""
CONNECTION: Final = {
    *("_buffer_paused", "_close", "_drain_helper", "_force_close", "_handler_waiter", "_keepalive_handle"),
    *("_keepalive_timeout", "_lingering_time", "_loop", "_manager", "_messages", "_msg_queue_resume_size", "_parser"),
    *("_paused", "_process_keepalive", "_request_in_progress", "_resume_reading_if_drained", "_waiter"),
    "_next_keepalive_close_time",
}
"""Private attributes of aiohttp's `RequestHandler` that `HttpConnection` uses."""


def test_unpublished_imports_are_listed() -> None:
    found: dict[str, set[str]] = {}
    for module, name in _imports():
        found.setdefault(module, set()).add(name)
    assert found == MODULES


@pytest.mark.parametrize(("module", "names"), MODULES.items(), ids=list(MODULES))
def test_unpublished_names_exist(module: str, names: set[str]) -> None:
    found = importlib.import_module(module)
    assert {name for name in names if not hasattr(found, name)} == set()


async def test_aiokafka_private_attributes_exist() -> None:
    client, consumer = AIOKafkaClient(), AIOKafkaConsumer()
    owners: dict[Any, tuple[str, ...]] = {
        client: ("_conns", "_get_conn", "_on_connection_closed", "_wait_on_metadata"),
        AIOKafkaConnection("127.0.0.1", 9092): ("_requests",),
        consumer: ("_client",),
        AIOKafkaAdminClient(): ("_client",),
        MetadataRequest([]): ("_allow_auto_topic_creation",),
    }
    missing = [
        f"{type(owner).__name__}.{name}"
        for owner, names in owners.items()
        for name in names
        if not hasattr(owner, name)
    ]
    await consumer.stop()
    assert missing == []


def test_aiohttp_private_attributes_are_listed_and_exist() -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(HttpConnection)))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
    }
    own = {*HttpConnection.__slots__, *vars(HttpConnection)} - CONNECTION
    assert used - own == CONNECTION
    assert {name for name in CONNECTION if not hasattr(web.RequestHandler, name)} == set()


def _imports() -> Iterator[tuple[str, str]]:
    """Yield module and name of each import from unpublished modules of aiokafka and aiohttp."""
    for folder in ROOT.iterdir():
        for file in folder.rglob("*.py") if folder.name[0] != "." and folder.name != "tests" else ():
            source = file.read_text()
            for node in ast.walk(ast.parse(source)) if "aiokafka" in source or "aiohttp" in source else ():
                if not isinstance(node, ast.ImportFrom) or node.module is None or node.module in PUBLISHED:
                    continue
                if node.module.partition(".")[0] in ("aiokafka", "aiohttp"):
                    yield from ((node.module, alias.name) for alias in node.names)
