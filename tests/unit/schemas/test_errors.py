"""Tests of errors of queries: codes, reasons of refusals, and the reason that every refusal of the product names."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import QUERY_ERRORS, ErrorCode, Fault, Internal, RefusalReason, query_error

ROOT = Path(__file__).parents[3]
PRODUCT = (
    *("admin", "broker", "gateway", "infaas"),
    *("registry/service", "schemas", "process/security", "selector", "workers"),
)
CODES = {kind.__name__: code for code, kind in QUERY_ERRORS.items()}


@pytest.mark.parametrize("code", ErrorCode)
def test_query_error_comes_back_from_its_code(code: ErrorCode) -> None:
    error = query_error(code.value, "busy")
    assert (type(error), str(error), error.reason) == (QUERY_ERRORS[code], "busy", None)
    assert (error.http_status < 500) == (error.fault is Fault.CLIENT)


@pytest.mark.parametrize("reason", RefusalReason)
def test_reason_comes_back_from_its_value(reason: RefusalReason) -> None:
    assert query_error(reason.code, "busy", reason.value).reason is reason


def test_unknown_code_and_reason_of_a_newer_server_are_read() -> None:
    assert isinstance(query_error("brand_new", "x"), Internal)
    assert query_error("overloaded", "busy", "brand_new").reason is None


def reasons_by_error() -> Iterator[tuple[str, str, str | None]]:
    """Yield place, class and reason of each error of a query that a file of the product creates."""
    for path in (path for folder in PRODUCT for path in (ROOT / folder).rglob("*.py")):
        source = path.read_text()
        for node in ast.walk(ast.parse(source)) if any(name in source for name in CODES) else ():
            called = node.func if isinstance(node, ast.Call) else node.exc if isinstance(node, ast.Raise) else None
            if isinstance(called, ast.Name) and called.id in CODES:
                keywords = node.keywords if isinstance(node, ast.Call) else []
                reason = next((ast.unparse(k.value) for k in keywords if k.arg == "reason"), None)
                yield f"{path.relative_to(ROOT)}:{called.lineno}", called.id, reason


def test_every_refusal_names_a_reason_of_its_code() -> None:
    """`Overloaded` at each place; the other refusals have a default."""
    found = list(reasons_by_error())
    assert [place for place, kind, reason in found if kind == "Overloaded" and reason is None] == []
    named = [(kind, reason) for _, kind, reason in found if reason and reason.startswith("RefusalReason.")]
    assert len(named) > len(RefusalReason) / 2
    for kind, reason in named:
        assert RefusalReason[reason.partition(".")[2]].code is CODES[kind], f"{kind} with {reason}"
    for code in (ErrorCode.QUOTA_EXCEEDED, ErrorCode.UNSATISFIABLE, ErrorCode.DEADLINE_EXCEEDED):
        assert (reason := QUERY_ERRORS[code]().reason) is not None
        assert reason.code is code
