"""Tests of the call graph, on a small tree."""

import pkgutil
from pathlib import Path

import pytest

from tools.call_paths import PATHS, CallGraph, PathFigures

SHOP = """
from shop.price import Price, round_up

class Counter:
    def sell(self) -> float:
        self.greet()
        price = Price(2.0)
        total = round_up(price.total())
        return self.count(total)

    def greet(self) -> None: ...

    def count(self, total: float) -> float:
        return total
"""
PRICE = """
class Price:
    def __init__(self, amount: float) -> None: ...

    def total(self) -> float:
        return round_up(1.0)

def round_up(amount: float) -> float:
    return amount
"""


@pytest.fixture
def graph(tmp_path: Path) -> CallGraph:
    (tmp_path / "shop").mkdir()
    for name, text in {"__init__": "", "counter": SHOP, "price": PRICE}.items():
        (tmp_path / "shop" / f"{name}.py").write_text(text)
    return CallGraph(tmp_path)


def test_call_graph_follows_each_function_once(graph: CallGraph) -> None:
    names = [name.removeprefix("shop.") for _, name in graph.follow("shop.counter:Counter.sell")]
    assert names == [
        "counter.Counter.sell", "counter.Counter.greet", "price.Price.__init__", "price.round_up",
        "price.Price.total", "counter.Counter.count",
    ]  # fmt: skip


def test_call_graph_counts_returns_to_files(graph: CallGraph) -> None:
    # counter, price and back for __init__, round_up and total: three returns to counter, two to price
    assert graph.measure("shop.counter:Counter.sell") == PathFigures(functions=6, files=2, returns=5)


@pytest.mark.parametrize("entry", PATHS.values())
def test_call_paths_exist(entry: str) -> None:
    assert callable(pkgutil.resolve_name(entry))
