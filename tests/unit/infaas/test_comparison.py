"""Tests of the comparison of variants: domination, and plots."""

import importlib
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from infaas.cli.plot import AXES, draw_image, draw_terminal, frontier
from registry.comparison import ComparedVariant, best_gain, compare
from schemas.errors import OperatorError
from schemas.latency import BatchLatency
from schemas.rows.catalog import Profile, Variant
from tests.example_rows import a_profile, a_variant


def _one(name: str, accuracy: float, *ms: float) -> tuple[Variant, Profile]:
    """Return a variant with these latencies, in ms, at batches of 1, 4 and 16."""
    measured = tuple(BatchLatency(batch, at / 1000, at / 1000) for batch, at in zip((1, 4, 16), ms, strict=True))
    variant = replace(a_variant(name), task="digits", max_batch=16)
    return variant, replace(a_profile(name), accuracy=accuracy, latency=measured)


def _compare(*rows: tuple[Variant, Profile]) -> dict[str, ComparedVariant]:
    found = compare([variant for variant, _ in rows], {profile.variant: profile for _, profile in rows})
    return {one.variant.name: one for one in found}


def test_compare_finds_dominated_variants() -> None:
    found = _compare(
        _one("a.good.cpu", 0.9, 1, 2, 4), _one("a.slow.cpu", 0.9, 2, 3, 5), _one("b.bad.cpu", 0.8, 1, 2, 4)
    )
    assert {name: one.dominated_by for name, one in found.items()} == {
        "a.good.cpu": "",
        "a.slow.cpu": "a.good.cpu",
        "b.bad.cpu": "a.good.cpu",
    }


@pytest.mark.parametrize(
    "other",
    [
        _one("a.other.cpu", 0.91, 2, 3, 5),  # more accurate
        _one("a.other.cpu", 0.8, 2, 3, 3.9),  # faster at one size
        _one("a.other.cpu", 0.9, 1, 2, 4),  # equal in all
    ],
)
def test_compare_keeps_variant_that_is_better_in_one_way(other: tuple[Variant, Profile]) -> None:
    found = _compare(_one("a.good.cpu", 0.9, 1, 2, 4), other)
    assert found["a.other.cpu"].dominated_by == ""


def test_compare_requires_domination_on_all_hardware() -> None:
    rows = [_one("a.good.cpu", 0.9, 1, 2, 4), _one("a.slow.cpu", 0.9, 2, 3, 5), _one("a.slow.cuda", 0.9, 1, 1, 1)]
    assert _compare(*rows)["a.slow.cpu"].dominated_by == ""
    rows.append(_one("a.good.cuda", 0.9, 0.5, 0.5, 0.5))
    found = _compare(*rows)
    assert (found["a.slow.cpu"].dominated_by, found["a.slow.cuda"].dominated_by) == ("a.good.cpu", "a.good.cuda")


def test_compare_ignores_speed_on_more_cores() -> None:
    two, profile = _one("a.two.cpu", 0.9, 0.5, 1, 2)
    found = _compare(_one("a.one.cpu", 0.9, 1, 2, 4), (two, replace(profile, threads=2)))
    assert found["a.one.cpu"].dominated_by == ""


def test_compare_separates_tasks_and_requires_profiles() -> None:
    slow, profile = _one("b.slow.cpu", 0.1, 9, 9, 9)
    assert _compare(_one("a.good.cpu", 0.9, 1, 2, 4), (replace(slow, task="other"), profile))["b.slow.cpu"]
    assert compare([slow], {}) == []


COMPARED = [
    one.point()
    for one in _compare(
        _one("a.good.cpu", 0.9, 1, 2, 4), _one("a.slow.cpu", 0.9, 2, 3, 5), _one("b.tiny.cpu", 0.7, 0.1, 0.2, 0.3)
    ).values()
]


def test_frontier_excludes_dominated_variants() -> None:
    for _, quantity in AXES:
        assert [one.variant for one in frontier(COMPARED, quantity)] == ["b.tiny.cpu", "a.good.cpu"]


def test_draw_terminal_places_every_variant() -> None:
    drawn = draw_terminal("digits", COMPARED, 60)
    assert max(map(len, drawn.splitlines())) <= 60
    assert "A a, B b" in drawn
    _, latency, cost = drawn.split("accuracy in %")
    for part, quantity in ((latency, "latency of one input"), (cost, "USD per 1000")):
        title, first, *middle, last, _, ends = part.strip("\n").splitlines()
        assert quantity in title
        assert (first.split("|")[0].strip(), last.split("|")[0].strip()) == ("90.0", "70.0")
        assert last.index("B") < first.index("A") < first.index("a")
        assert not any(character.isalpha() for line in middle for character in line)
        assert len(ends.split()) == 2
    assert latency.strip("\n").splitlines()[-1].split() == ["0.1", "2"]


def test_draw_terminal_draws_single_variant() -> None:
    _, latency, cost = draw_terminal("digits", COMPARED[2:], 60).split("accuracy in %")
    assert all(any(line.endswith("|A") for line in part.splitlines()) for part in (latency, cost))


@pytest.fixture(scope="module")
def fonts() -> None:
    """Make matplotlib find its fonts, for which it starts a process once per machine."""
    importlib.import_module("matplotlib.font_manager")


@pytest.mark.usefixtures("fonts")
def test_draw_image_writes_png_file(tmp_path: Path) -> None:
    draw_image("digits", COMPARED, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OperatorError, match="cannot write"):
        draw_image("digits", COMPARED, tmp_path / "missing" / "plot.png")


def test_draw_image_names_missing_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(OperatorError, match=r"matplotlib is not installed.*infaas\[plots\]"):
        draw_image("digits", COMPARED, tmp_path / "plot.png")


def _on_two_cores(*ms: float) -> tuple[Variant, Profile]:
    variant, profile = _one("a.good.cpu2", 0.9, *ms)
    return replace(variant, hardware="cpu"), replace(profile, threads=2)


def test_compare_relates_variant_on_more_cores_to_fewer() -> None:
    narrow, wide = _one("a.good.cpu", 0.9, 2, 4, 8), _on_two_cores(1, 2, 4)
    found = _compare(narrow, wide)
    assert {name: one.dominated_by for name, one in found.items()} == {"a.good.cpu": "", "a.good.cpu2": ""}
    assert (found["a.good.cpu"].label, found["a.good.cpu2"].label) == ("good", "good.cpu2")
    assert _compare(narrow, _on_two_cores(3, 4, 8))["a.good.cpu2"].dominated_by == "a.good.cpu"
    assert best_gain(wide[1].latency, narrow[1].latency) == 2.0
