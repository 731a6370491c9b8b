"""Tests of the sizes of updates: no list and no text of a large system makes an update large."""

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import pytest
from msgspec import inspect
from msgspec.structs import replace

from admin.endpoints import ENDPOINTS
from gateway.console.pages import PAGES
from gateway.console.stream import Readings
from tests.unit.gateway.console.visits import Site

UPDATE_BYTES: Final = 20_000
NAME: Final = "mobilenet-large.openvino-int8static.cpu"
TEXT: Final = 'the worker said: "not enough memory" <at 0x7f> ' * 100
TEXTS: Final = {"reason", "error", "doing", "note", "notes", "detail", "message", "inputs", "explanation"}
"""Fields that hold sentences; other texts are names."""
NULL: Final = {"finished_at", "ended_at", "revoked_at", "draft"}
"""Fields that are null while a form can cancel or revoke, and one that contains itself."""
MANY: Final = 1000
"""Number of rows of an answer; lists within an answer have a tenth."""
FEW: Final = MANY // 10


def a_large(kind: inspect.Type, name: str = "") -> Any:
    """Return a large value of a type, for the field `name`."""
    match kind:
        case inspect.Metadata():
            return a_large(kind.type, name)
        case inspect.StructType():
            return kind.cls(**{one.name: a_large(one.type, one.name) for one in kind.fields})
        case inspect.ListType() | inspect.VarTupleType() | inspect.FrozenSetType():
            few = len(kind.item_type.cls) if isinstance(kind.item_type, inspect.EnumType) else FEW
            return [a_large(kind.item_type, name)] * few
        case inspect.TupleType():
            return tuple(a_large(one, name) for one in kind.item_types)
        case inspect.DictType():
            return {f"{NAME}-{number}": a_large(kind.value_type, name) for number in range(FEW)}
        case inspect.UnionType():
            return None if name in NULL else a_large(kind.types[0], name)
        case inspect.StrType() | inspect.AnyType():
            return TEXT if name in TEXTS else NAME
        case inspect.EnumType():
            return next(iter(kind.cls))
        case inspect.DateTimeType():
            return datetime(2026, 1, 1, tzinfo=UTC)
        case inspect.BytesType():
            return TEXT.encode()
        case _:
            return {"IntType": 123_456, "FloatType": 123_456.789, "BoolType": True}[type(kind).__name__]


def of_large_system() -> dict[str, Any]:
    """Return the results of all endpoints that read."""
    results = dict[str, Any]()
    for one in ENDPOINTS:
        if one.method == "GET":
            found = a_large(inspect.type_info(one.result))
            results[one.name] = found * (MANY // FEW) if isinstance(found, list) else found
    load = results["tasks.load"]
    return results | {"tasks.load": replace(load, until=load.until + timedelta(days=1000))}


@pytest.mark.parametrize("path", [page.path for page in PAGES if page.live])
async def test_blocks_of_large_system_fit_into_an_update(path: str) -> None:
    blocks = await Site(of_large_system()).live(re.sub(r"\{\w+\}", NAME, path.replace("{id}", "7")))
    sizes = {name: len((await Readings(partial(read, {name: html})).next_event())[0]) for name, html in blocks.items()}
    assert {name: size for name, size in sizes.items() if size > UPDATE_BYTES} == {}


async def read(blocks: dict[str, str]) -> dict[str, str]:
    return blocks
