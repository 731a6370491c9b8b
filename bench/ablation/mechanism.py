"""A mechanism with its switch: the code that it would spare, and patches that leave it out of a simulation."""

import ast
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Final
from unittest.mock import patch

from msgspec import Struct
from msgspec.structs import replace

from simulator.scenario import Scenario

Patch = Callable[[Any], Any]
"""Makes the replacement of a function or constant from the original."""


class Area(StrEnum):
    """Part of the system that a mechanism belongs to."""

    PREDICTION = "selector: predictions"
    CHOICE = "selector: choice"
    UPGRADES = "selector: upgrades"
    OVERLOAD = "overload control"
    OFFLINE = "offline queries"
    WORKER = "worker"
    GATEWAY = "gateway"
    LOAD = "autoscaler: load"
    ALLOCATION = "autoscaler: allocation"
    DELAYS = "autoscaler: delays"
    PLACEMENT = "autoscaler: placement"


@dataclass(frozen=True, slots=True, kw_only=True)
class AblatedMechanism:
    """A mechanism that simulations can leave out. Places are written `module:name` or `module:Class.name`."""

    name: str
    area: Area
    code: tuple[str, ...]
    """Places of the functions, classes and constants that could be deleted without it."""
    patches: Mapping[str, Patch] = field(default_factory=dict[str, Patch])
    """Replacements by place."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Values of the scenario's fields, by path."""
    promise: str = ""
    """Promise to users that the mechanism keeps, whatever its figures; empty if there is none."""
    unseen: str = ""
    """Reason why a simulation cannot see it; empty if it can."""

    def lines(self) -> int:
        """Return the lines of its code, docstrings included."""
        return sum(map(lines_of, self.code))

    @contextmanager
    def left_out(self) -> Generator[None]:
        """Run without the mechanism's patches; they are undone at the end."""
        with ExitStack() as stack:
            for place, make in self.patches.items():
                holder, name = split_place(place)
                stack.enter_context(patch.object(holder, name, make(getattr(holder, name))))
            yield

    def changed(self, scenario: Scenario) -> Scenario:
        """Return a scenario with the mechanism's settings."""
        for path, value in self.settings.items():
            scenario = with_setting(scenario, path, value)
        return scenario


def split_place(place: str) -> tuple[Any, str]:
    """Return the module or class of a place, and the name there."""
    module, _, path = place.partition(":")
    owner, _, name = path.rpartition(".")
    return resolve_name(f"{module}:{owner}"), name


def with_setting(scenario: Scenario, path: str, value: Any) -> Scenario:
    """Return a scenario with another value of a field, given by its path, e.g. `scaling.limits.headroom`."""
    return _replaced(scenario, path.split("."), value)


def _replaced(struct: Any, path: list[str], value: Any) -> Any:
    assert isinstance(struct, Struct), path
    name, *rest = path
    return replace(struct, **{name: _replaced(getattr(struct, name), rest, value) if rest else value})


# -- patches -----------------------------------------------------------------------------------------------------------


def constant(value: Any) -> Patch:
    """Replace a constant, property or function by another one."""
    return lambda _original: value


def returning(value: Any) -> Patch:
    """Replace a function by one that returns a constant."""
    return making(lambda: value)


def making(make: Callable[[], Any]) -> Patch:
    """Replace a function by one that returns a new value at each call."""

    def replaced(*_arguments: Any, **_named: Any) -> Any:
        return make()

    return constant(replaced)


def argument(number: int) -> Patch:
    """Replace a function by one that returns its argument of this number, `self` included."""

    def replaced(*arguments: Any, **_named: Any) -> Any:
        return arguments[number]

    return constant(replaced)


def given(number: int, change: Callable[[Any], Any]) -> Patch:
    """Change the argument of this number before the function gets it."""

    def patch_of(original: Any) -> Any:
        def changed(*arguments: Any, **named: Any) -> Any:
            before, after = arguments[:number], arguments[number + 1 :]
            return original(*before, change(arguments[number]), *after, **named)

        return changed

    return patch_of


def named(**values: Any) -> Patch:
    """Set arguments by name, whatever the caller passes."""

    def patch_of(original: Any) -> Any:
        def changed(*arguments: Any, **rest: Any) -> Any:
            return original(*arguments, **(rest | values))

        return changed

    return patch_of


def result(change: Callable[[Any], Any]) -> Patch:
    """Change the result of a function."""

    def patch_of(original: Any) -> Any:
        def changed(*arguments: Any, **named: Any) -> Any:
            return change(original(*arguments, **named))

        return changed

    return patch_of


# -- lines of code -----------------------------------------------------------------------------------------------------

_ROOT: Final = Path(__file__).parents[2]


def lines_of(place: str) -> int:
    """Return the lines of a place's definition, docstring included; of a whole module without a name.

    Raises:
        LookupError: there is no such place.
    """
    module, _, path = place.partition(":")
    tree, total = _parsed(module)
    if not path:
        return total
    body, found = tree.body, list[ast.stmt]()
    for name in path.split("."):
        found = _find(body, name)
        body = found[0].body if found and isinstance(found[0], ast.ClassDef) else []
    if not found:
        raise LookupError(place)
    return sum(map(_length, found))


@cache
def _parsed(module: str) -> tuple[ast.Module, int]:
    path = _ROOT / f"{module.replace('.', '/')}.py"
    if not path.is_file():
        raise LookupError(module)
    text = path.read_text()
    return ast.parse(text), len(text.splitlines())


def _find(body: Sequence[ast.stmt], name: str) -> list[ast.stmt]:
    """Return the definition of a name, and the text after it if that documents it; nothing if there is none."""
    for index, node in enumerate(body):
        if name in _names(node):
            return [node, *(after for after in body[index + 1 : index + 2] if _is_docstring(node, after))]
    return []


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _length(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(one.lineno for one in decorators)])
    return (node.end_lineno or node.lineno) - first + 1


def _is_docstring(node: ast.stmt, after: ast.stmt) -> bool:
    """Return true if the text after an assignment documents it."""
    return (
        isinstance(node, (ast.Assign, ast.AnnAssign))
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    )
