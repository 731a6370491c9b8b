"""Every refusal of the product names a reason, and every reason is of the code of its error."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import QUERY_ERRORS, ErrorCode, Overloaded, RefusalReason, query_error

ROOT = Path(__file__).parents[3]
PRODUCT = (
    *("admin", "broker", "gateway", "infaas"),
    *("registry/service", "schemas", "process/security", "selector", "workers"),
)
CODES = {kind.__name__: code for code, kind in QUERY_ERRORS.items()}
REFUSALS = frozenset(
    {ErrorCode.OVERLOADED, ErrorCode.QUOTA_EXCEEDED, ErrorCode.UNSATISFIABLE, ErrorCode.DEADLINE_EXCEEDED}
)
"""Codes whose errors always have a reason."""


def sources() -> Iterator[tuple[Path, str]]:
    """Yield the Python files of the product."""
    for folder in PRODUCT:
        yield from ((path, path.read_text()) for path in (ROOT / folder).rglob("*.py"))


def raised(source: str) -> Iterator[tuple[int, str, ast.expr | None]]:
    """Yield line, class and reason of each error of a query that a file creates."""
    if not any(name in source for name in CODES):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CODES:
            yield node.lineno, node.func.id, next((k.value for k in node.keywords if k.arg == "reason"), None)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id in CODES:
            yield node.lineno, node.exc.id, None


def test_overloaded_always_names_a_reason() -> None:
    missing = [
        f"{path.relative_to(ROOT)}:{line}"
        for path, source in sources()
        for line, kind, reason in raised(source)
        if kind == Overloaded.__name__ and reason is None
    ]
    assert missing == []


def test_reasons_are_of_the_code_of_their_error() -> None:
    named = [
        (kind, reason.attr)
        for _, source in sources()
        for _, kind, reason in raised(source)
        if isinstance(reason, ast.Attribute)
    ]
    assert len(named) > len(RefusalReason) / 2
    for kind, reason in named:
        assert RefusalReason[reason].code is CODES[kind], f"{kind} with {reason}"


def test_every_reason_is_given_somewhere() -> None:
    text = "".join(source for _, source in sources())
    assert [reason for reason in RefusalReason if f"RefusalReason.{reason.name}" not in text] == []


@pytest.mark.parametrize("code", sorted(REFUSALS - {ErrorCode.OVERLOADED}))
def test_other_refusals_have_a_reason_by_default(code: ErrorCode) -> None:
    reason = QUERY_ERRORS[code]().reason
    assert reason is not None
    assert reason.code is code


@pytest.mark.parametrize("reason", RefusalReason)
def test_reason_comes_back_from_its_value(reason: RefusalReason) -> None:
    assert query_error(reason.code, "busy", reason.value).reason is reason


def test_unknown_reason_of_a_newer_server_becomes_none() -> None:
    assert query_error("overloaded", "busy", "brand_new").reason is None
    assert query_error("quota_exceeded", "busy").reason is None
