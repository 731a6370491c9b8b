"""Measures the paths of calls: the functions and files that a call passes, and its returns to a file that it had left.

    python tools/call_paths.py                                    # the paths in `PATHS`
    python tools/call_paths.py selector.policy.selection:choose  # one entry, with the functions that it reaches

The call graph is static. A call is resolved by the imports of its module, by `self`, or by the name of a method or
property that one class alone defines; other calls, and calls of libraries, are not followed. Each function is followed
once, in the order of its source. A return is a step, by a call or back to a caller, into a file that the path had left.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

PATHS: Final = {
    "selection": "selector.policy.selection:choose",
    "status of a worker": "selector.policy.cluster_state:ClusterState.apply_status",
    "pin by an administrator": "admin.scaling:pin",
    "registration": "registry.register:register",
    "refusal": "selector.admission.overload:LoadShedder.decide",
    "job": "gateway.jobs.delivery:JobSender.run",
    "lag record": "autoscaler.service:Autoscaler._on_record",
    "unregister": "registry.removal.unregister:_Removal.run",
    "autoscaler snapshot": "autoscaler.observe.snapshot_builder:SnapshotBuilder.build",
    "health of an instance": "workers.serving.health:next_state",
}
"""Entries of the paths that a change is compared by."""
_LEFT_OUT: Final = ("tests", "bench", "build", "dist", "tools", "docs", "docker")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class PathFigures(NamedTuple):
    """Size of a path."""

    functions: int
    files: int
    returns: int


@dataclass(slots=True)
class _Module:
    name: str
    imports: dict[str, str] = field(default_factory=dict[str, str])
    """Qualified names by local name."""


@dataclass(slots=True)
class _Definition:
    """A function or method, with the module and class that it stands in."""

    module: _Module
    owner: str
    node: _Function


class CallGraph:
    """Functions of a tree, and the calls between them."""

    def __init__(self, root: Path) -> None:
        self._definitions: dict[str, _Definition] = {}
        self._bases: dict[str, list[str]] = {}
        self._methods: defaultdict[str, list[str]] = defaultdict(list)
        """Qualified names of methods by name."""
        self._modules: dict[str, _Module] = {}
        self._reachable = cache(self._reachable_modules)
        for path in _sources(root):
            self._read(path, root)

    def has(self, entry: str) -> bool:
        """Return true if the tree has an entry."""
        return entry.replace(":", ".") in self._definitions

    def follow(self, entry: str) -> list[tuple[int, str]]:
        """Return the functions that `entry` (`module:Class.function`) reaches, each once, with their depths."""
        name = entry.replace(":", ".")
        if not self.has(entry):
            raise SystemExit(f"no function {entry}")
        found: list[tuple[int, str]] = []
        self._walk(name, 0, found, set())
        return found

    def measure(self, entry: str) -> PathFigures:
        """Measure the path from an entry."""
        found = self.follow(entry)
        steps = list(self._steps(found))
        left: set[str] = set()
        returns = 0
        for before, after in pairwise(steps):
            if before != after:
                left.add(before)
                returns += after in left
        return PathFigures(len(found), len(set(steps)), returns)

    def _steps(self, found: Sequence[tuple[int, str]]) -> Iterator[str]:
        """Yield the file at each step of a path: at a call, and back in each caller."""
        stack: list[str] = []
        for depth, name in found:
            while len(stack) > depth:
                stack.pop()
                if stack:
                    yield stack[-1]
            stack.append(self._definitions[name].module.name)
            yield stack[-1]
        yield from reversed(stack[:-1])

    def _walk(self, name: str, depth: int, found: list[tuple[int, str]], seen: set[str]) -> None:
        seen.add(name)
        found.append((depth, name))
        for callee in self._callees(self._definitions[name]):
            if callee not in seen:
                self._walk(callee, depth + 1, found, seen)

    def _callees(self, definition: _Definition) -> Iterator[str]:
        for node in _in_order(definition.node):
            match node:
                case ast.Name(id=name, ctx=ast.Load()):
                    yield from self._named(definition.module.imports.get(name, f"{definition.module.name}.{name}"))
                case ast.Attribute(value=ast.Name(id="self"), attr=attribute):
                    yield from self._method(definition.owner, attribute) or self._only(definition, attribute)
                case ast.Attribute(attr=attribute):
                    yield from self._only(definition, attribute)
                case _:
                    pass

    def _named(self, name: str) -> list[str]:
        """Resolve a function, or a class to its constructor."""
        if name in self._definitions:
            return [name]
        return [made for made in (f"{name}.__init__", f"{name}.__post_init__") if made in self._definitions]

    def _method(self, owner: str, attribute: str) -> list[str]:
        if f"{owner}.{attribute}" in self._definitions:
            return [f"{owner}.{attribute}"]
        for base in self._bases.get(owner, ()):
            if found := self._method(base, attribute):
                return found
        return []

    def _only(self, definition: _Definition, attribute: str) -> list[str]:
        within = self._reachable(definition.module.name)
        methods = [name for name in self._methods[attribute] if self._definitions[name].module.name in within]
        return methods if len(methods) == 1 else []

    def _reachable_modules(self, module: str) -> set[str]:
        """Return the modules that a module imports, directly or not, and itself."""
        found, waiting = set[str](), [module]
        while waiting:
            name = waiting.pop()
            if name in found or name not in self._modules:
                continue
            found.add(name)
            for imported in self._modules[name].imports.values():
                waiting += [imported, imported.rpartition(".")[0]]
        return found

    def _read(self, path: Path, root: Path) -> None:
        parts = path.relative_to(root).with_suffix("").parts
        module = _Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        self._modules[module.name] = module
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    module.imports[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        for node in tree.body:
            if isinstance(node, _Function):
                self._definitions[f"{module.name}.{node.name}"] = _Definition(module, "", node)
            elif isinstance(node, ast.ClassDef):
                self._read_class(node, module)

    def _read_class(self, node: ast.ClassDef, module: _Module) -> None:
        owner = f"{module.name}.{node.name}"
        names = [base.id for base in node.bases if isinstance(base, ast.Name)]
        self._bases[owner] = [module.imports.get(name, f"{module.name}.{name}") for name in names]
        for member in node.body:
            if isinstance(member, _Function):
                name = f"{owner}.{member.name}"
                self._definitions[name] = _Definition(module, owner, member)
                self._methods[member.name].append(name)


def _in_order(function: _Function) -> Iterator[ast.AST]:
    """Yield the nodes of a function in the order of its source."""
    nodes = [node for statement in function.body for node in ast.walk(statement) if isinstance(node, ast.expr)]
    return iter(sorted(nodes, key=lambda node: (node.lineno, node.col_offset, -(node.end_col_offset or 0))))


def _sources(root: Path) -> list[Path]:
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir() and (entry / "__init__.py").exists()]
    return [path for folder in folders if folder.name not in _LEFT_OUT for path in sorted(folder.rglob("*.py"))]


def main(words: Sequence[str]) -> int:
    """Print the figures of all paths, or one path."""
    graph = CallGraph(Path(__file__).parents[1])
    for entry in words:
        for depth, name in graph.follow(entry):
            print("  " * depth + name)
    for name, entry in {entry: entry for entry in words}.items() if words else PATHS.items():
        functions, files, returns = graph.measure(entry)
        print(f"{name}: {functions} functions in {files} files, {returns} returns")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
