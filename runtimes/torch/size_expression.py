"""Check of symbolic expressions in exported programs before torch evaluates them.

Torch passes each expression to `sympy.sympify`, which uses Python's `eval`. So an expression is accepted only if it
consists of numbers, symbols, operators and calls of the functions listed here, with bounded length and depth.
"""

import re
from typing import Final

_LONGEST: Final = 10_000
_DEEPEST: Final = 50
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>\d{1,19}(?:\.\d{0,19})?(?:e[+-]?\d{1,3})?)(?!\w)|(?P<name>[A-Za-z_]\w*)|(?P<text>'[\w.+-]{1,64}')"
    r"|(?P<operator>\*\*|//|<=|>=|==|!=|[-+*/%(),<>=&|~]))",
    re.ASCII,
)
_SYMBOL: Final = re.compile(r"[a-z_]{1,8}\d{1,6}", re.ASCII)
_CONSTANTS: Final = frozenset({"true", "false", "oo", "int_oo"})
_TAKES_TEXT: Final = frozenset({"Symbol", "Dummy", "Float"})
_FUNCTIONS: Final = _TAKES_TEXT | frozenset(
    (
        *("Integer", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "Abs", "floor", "ceiling", "Infinity"),
        *("Equality", "Unequality", "StrictGreaterThan", "StrictLessThan", "GreaterThan", "LessThan"),
        *("Eq", "Ne", "Gt", "Ge", "Lt", "Le", "And", "Or", "Not", "ITE", "Piecewise", "ExprCondPair"),
        # functions of torch.utils._sympy.functions
        *("FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv"),
        *("LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat", "TruncToInt"),
        *("IsNonOverlappingAndDenseIndicator", "RoundToInt", "RoundDecimal", "ToFloat", "Identity"),
    )
)
_ASSUMPTIONS: Final = frozenset(
    (
        *("integer", "positive", "nonnegative", "negative", "nonpositive", "zero", "nonzero", "real", "finite"),
        *("even", "odd", "commutative", "extended_real", "precision", "dps"),
    )
)
_BINARY: Final = frozenset({"+", "-", "*", "/", "//", "%", "**", "<", ">", "<=", ">=", "==", "!=", "&", "|"})
_UNARY: Final = frozenset({"+", "-", "~"})
_END: Final = ("end", "")


def check_expression(text: str) -> None:
    """Raise ValueError unless the text is an expression over sizes and nothing else."""
    if len(text) > _LONGEST:
        raise ValueError(f"an expression of {len(text)} characters is longer than the allowed {_LONGEST}")
    _Parser(text).check()


class _Parser:
    """Recursive-descent parser of the tokens; operator precedence is irrelevant for the check."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._tokenise()
        self._at = 0

    def check(self) -> None:
        self._expression(0)
        if self._next() != _END:
            raise self._refused()

    def _tokenise(self) -> list[tuple[str, str]]:
        tokens, at, text = list[tuple[str, str]](), 0, self._text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise self._refused()
            tokens.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()
        return [*tokens, _END]

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at]

    def _next(self) -> tuple[str, str]:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _expression(self, depth: int) -> None:
        self._operand(depth)
        while self._peek()[0] == "operator" and self._peek()[1] in _BINARY:
            self._next()
            self._operand(depth)

    def _operand(self, depth: int) -> None:
        if depth > _DEEPEST:
            raise ValueError(f"an expression is nested deeper than the allowed {_DEEPEST} levels")
        while self._peek()[1] in _UNARY and self._peek()[0] == "operator":
            self._next()
        kind, value = self._next()
        if kind == "number":
            return
        if kind == "operator" and value == "(":
            self._expression(depth + 1)
            self._expect(")")
        elif kind == "name" and self._peek() == ("operator", "("):
            self._call(value, depth)
        elif kind != "name" or not (value in _CONSTANTS or _SYMBOL.fullmatch(value)):
            raise self._refused()

    def _call(self, function: str, depth: int) -> None:
        if function not in _FUNCTIONS:
            raise self._refused()
        self._expect("(")
        if self._peek() == ("operator", ")"):
            self._next()
            return
        while True:
            self._argument(function, depth)
            kind, value = self._next()
            if (kind, value) == ("operator", ")"):
                return
            if (kind, value) != ("operator", ","):
                raise self._refused()

    def _argument(self, function: str, depth: int) -> None:
        kind, value = self._peek()
        if kind == "text" and function in _TAKES_TEXT:
            self._next()
        elif kind == "name" and value in _ASSUMPTIONS:
            self._next()
            self._expect("=")
            kind, value = self._next()
            if kind != "number" and value not in ("True", "False"):
                raise self._refused()
        else:
            self._expression(depth + 1)

    def _expect(self, operator: str) -> None:
        if self._next() != ("operator", operator):
            raise self._refused()

    def _refused(self) -> ValueError:
        return ValueError(f"{self._text[:80]!r} is not an expression over sizes")
