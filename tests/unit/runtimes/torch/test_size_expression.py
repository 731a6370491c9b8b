"""Tests of the check of size expressions: torch's own pass, and text that Python could execute is refused."""

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.torch.size_expression import check_expression

S0 = "Symbol('s0', positive=True, integer=True)"


@pytest.mark.parametrize(
    "text",
    [
        S0,
        f"Mul(Integer(2), {S0})",
        f"Add(Mul(Integer(-1), {S0}), Integer(9))",
        f"FloorDiv(Add({S0}, Integer(1)), Integer(2))",
        f"Max(Integer(1), PythonMod({S0}, Integer(3)))",
        f"Pow(ToFloat({S0}), Float('0.5', precision=53))",
        f"And(GreaterThan({S0}, Integer(2)), Not(Equality({S0}, Integer(7))))",
        "s0 + 2*s1 - (u3 // 4)",
        "s0**2 <= 64",
        "Eq(Mod(s0, 8), 0)",
        "true",
        "7",
    ],
)
def test_check_expression_accepts_torch_expressions(text: str) -> None:
    check_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "__import__('os').system('id')",
        f"__import__('os').system('id') or {S0}",
        f"{S0}.__class__",
        "Symbol('s0').name",
        "Symbol('x); import os')",
        'Symbol("s0")',
        "eval('1')",
        "exec(s0)",
        "sympify('1')",
        "lambdify(s0, s0)",
        "preview(s0)",
        "[s0 for s0 in s1]",
        "lambda: 1",
        "(yield)",
        "{s0}",
        "s0[0]",
        "s0 if s1 else s2",
        "s0 := 1",
        "s0; s1",
        "Integer(*s0)",
        "Integer(cls=s0)",
        "Symbol('s0', integer=exit)",
        "f's0'",
        "b's0'",
        "'s0'",
        "Integer('7')",
        "s0 # 1",
        "s0\n\nimport os",
        "s0 +",
        "(s0",
        "s0)",
        "Max(s0, )",
        "\u017f0",
        "\u0663",
        "9" * 20,
        "Max" + "(Max" * 100,
        "+ ".join(["s0"] * 5000),
    ],
)
def test_check_expression_refuses_other_text(text: str) -> None:
    with pytest.raises(ValueError, match="expression"):
        check_expression(text)


@given(st.text(alphabet="s0'()*,._=[]{}:\n @|ab", max_size=40))
def test_check_expression_accepts_no_attributes_or_indexing(text: str) -> None:
    """Accepted text contains no attribute access, index or definition."""
    try:
        check_expression(text)
    except ValueError:
        return
    outside = re.sub(r"'[\w.+-]*'", "", text)
    assert not re.search(r"[A-Za-z_)\]]\s*\.|[\[\]{}:@]|'", outside), text


def test_check_expression_bounds_nesting_depth() -> None:
    deep = "(" * sys.getrecursionlimit() + "s0" + ")" * sys.getrecursionlimit()
    with pytest.raises(ValueError, match="nested deeper"):
        check_expression(deep)
