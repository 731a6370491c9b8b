"""Tests of what pages show: pages of lists, plots, updates, and that every page and act has a role."""

import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from msgspec.structs import asdict

from admin.activity import CountSeries, arrange_load
from admin.catalog import ListedTask
from admin.endpoints import ENDPOINTS
from admin.registrations import model as register
from gateway.console.page import PageRange, page_of
from gateway.console.pages import ACTS, PAGES
from gateway.console.rendering import Rendering
from gateway.console.scale import with_rest
from gateway.console.stream import EVENT_BYTES, Blocks, least_pause_s, pause_s
from gateway.console.task import ask_fields, frontier, frontier_plot, load_plot
from registry.comparison import ComparedPoint
from schemas.generation import INPUTS, OUTPUTS
from schemas.headers import GENERATIVE_NEEDS
from schemas.jobs import JobProgress
from store.samples import TaskLoadPoint
from tests.example_rows import a_task
from tests.unit.gateway.console.visits import Site

CONSOLE = Path(__file__).parents[4] / "gateway" / "console"


def a_point(variant: str, accuracy: float, latency_s: float, cost: float = 1.0) -> ComparedPoint:
    return ComparedPoint(
        variant=variant, architecture="a", label=variant, accuracy=accuracy, latency_s=latency_s, cost=cost
    )


def test_frontier_keeps_faster_cheaper_and_more_accurate_variants() -> None:
    """Used variants come first; a cheap one is kept though another is faster and more accurate."""
    compared = [
        a_point("slow", 0.9, 0.1),
        a_point("worse", 0.7, 0.05),
        a_point("fast", 0.8, 0.01),
        a_point("cheap", 0.7, 0.06, cost=0.5),
        a_point("dear", 0.8, 0.01, cost=2.0),
    ]
    points = frontier(compared, {"worse": 0.5})
    assert [(one.variant, one.best, one.beaten_by) for one in points] == [
        ("worse", False, "fast"), ("slow", True, ""), ("fast", True, ""), ("cheap", True, ""), ("dear", False, "fast"),
    ]  # fmt: skip
    plot = frontier_plot(points)
    assert plot["x"] == [10.0, 10.0, 50.0, 60.0, 100.0]
    assert sorted(plot["cost"]) == [0.5, 1.0, 1.0, 1.0, 2.0]


def test_frontier_of_equal_variants_keeps_all() -> None:
    points = frontier([a_point("a", 0.9, 0.1), a_point("b", 0.9, 0.1)], {})
    assert all(one.best for one in points)


def test_plots_of_many_variants_are_bounded() -> None:
    points = frontier([a_point(f"v{n}", 0.5, 0.001 * n) for n in range(1, 1000)], {})
    assert len(frontier_plot(points)["x"]) == 100


def test_load_plot_leaves_out_intervals_that_readings_do_not_cover() -> None:
    """A steady load is a level line, though the last interval has begun a moment ago."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    points = [
        TaskLoadPoint(
            at=begin + timedelta(seconds=10 * step), target=None, min_accuracy=0.5, latency_ms=None, offline=False,
            queries=queries, refused=0, answered=queries, late=0, failed=0,
        )
        for step, queries in enumerate((100, 100, 20))
    ]  # fmt: skip
    plot = load_plot(arrange_load("digits", 10, points, begin + timedelta(seconds=22)))
    assert plot["x"] == [begin.timestamp(), begin.timestamp() + 10]
    assert [one["y"] for one in plot["series"]] == [[10.0, 10.0]]
    whole = load_plot(arrange_load("digits", 10, points[:2], begin + timedelta(seconds=20)))
    assert whole["x"] == plot["x"]
    assert load_plot(arrange_load("digits", 10, points, None))["x"] == []
    series = [CountSeries(name=str(n), counts=[1, n]) for n in range(10)]
    assert with_rest(series, 3)[-1] == CountSeries(name="8 others", counts=[8, 44])
    assert with_rest(series[:3], 3) == series[:3]


def test_page_of_clamps_to_existing_pages() -> None:
    rows = list(range(45))
    assert page_of("rows", rows, 3) == ([40, 41, 42, 43, 44], PageRange("rows", 3, 3, 45))
    assert page_of("rows", rows, 99)[1].page == 3
    first, place = page_of("rows", [], 1)
    assert (first, place.previous, place.following) == ([], None, None)


def test_progress_tells_what_is_left() -> None:
    progress = JobProgress(
        model="digits",
        batch=None,
        created_at=datetime.now(UTC),
        queued=8,
        running=2,
        succeeded=5,
        failed=1,
        cancelled=0,
        ended_per_s=0.5,
    )
    assert (progress.total, progress.left, progress.left_s) == (16, 10, 20.0)


def test_fields_of_tensors_have_an_example() -> None:
    [field] = ask_fields(a_task(), [])
    assert field.kind == "json"
    assert field.example.startswith("[[")


async def test_form_of_generative_task_has_its_needs_and_options() -> None:
    writing = ListedTask(name="digits", inputs=INPUTS, outputs=OUTPUTS, measure="contains")
    for task, generative in ((writing, True), (ListedTask(**asdict(a_task())), False)):
        html = await Site({"tasks.list": [task], "tasks.compare": [a_point("v", 0.9, 0.1)]}).page(
            "/console/tasks/digits"
        )
        fields = {*GENERATIVE_NEEDS, "temperature", "seed", "chat"}
        assert {name for name in fields if f'name="{name}"' in html} == (fields if generative else set())
        assert html.count("1000 tokens") == (2 if generative else 0)
        assert html.count("1000 queries") == (0 if generative else 2)


def test_blocks_are_sent_if_changed_and_bounded() -> None:
    blocks, large = Blocks(), "x" * EVENT_BYTES  # sent alone, since a block is not divided
    assert blocks.changed({"a": "1", "b": large, "c": "3"}) == {"a": "1"}
    assert blocks.changed({"a": "1", "b": large, "c": "3"}) == {"b": large}
    assert blocks.changed({"a": "2", "b": large, "c": "3"}) == {"c": "3", "a": "2"}
    assert blocks.changed({"a": "2", "b": large, "c": "3"}) == {}


def test_blocks_are_bounded_by_their_size_as_json() -> None:
    quoted = '"' * (EVENT_BYTES // 3)  # each is two characters of JSON
    assert set(Blocks().changed({"a": quoted, "b": quoted})) == {"a"}
    assert set(Blocks().changed({"a": quoted, "b": quoted[: EVENT_BYTES // 8]})) == {"a", "b"}


def test_blocks_that_change_always_do_not_hold_up_others() -> None:
    blocks = Blocks()
    sent = [set(blocks.changed(dict.fromkeys("abc", f"{turn}" + "x" * EVENT_BYTES))) for turn in range(4)]
    assert sent == [{"a"}, {"b"}, {"c"}, {"a"}]


def test_pause_is_multiple_of_the_reading_within_bounds() -> None:
    assert [pause_s(took) for took in (0.001, 0.02, 9.0)] == [1.0, 3.0, 15.0]
    assert [least_pause_s(took) for took in (0.02, 0.4, 9.0)] == [1.0, 2.0, 15.0]


def test_acts_are_endpoints_of_the_admin_api() -> None:
    assert {act.endpoint.name for act in ACTS} <= {one.name for one in ENDPOINTS}
    assert register in ENDPOINTS
    assert len({act.path for act in ACTS}) == len(ACTS)
    assert len({page.path for page in PAGES}) == len(PAGES)


def test_templates_have_no_inline_script_or_style() -> None:
    assert Rendering("1").static.address("console.css").startswith("/console/static/console.css?v=")
    for path in (CONSOLE / "templates").iterdir():
        text = path.read_text()
        assert not re.search(r"<script(?! defer src)|\sstyle=|\son[a-z]+=|javascript:|hx-on", text), path
        assert "| safe" not in text or path.name == "whole.html"


def test_vendored_files_are_those_of_their_list() -> None:
    static = CONSOLE / "static"
    listed = dict(
        re.findall(r"^\| `([^`]+)` .* `([0-9a-f]{64})` \|$", (static / "VENDORED.md").read_text(), re.MULTILINE)
    )
    assert set(listed) == {"htmx.min.js", "idiomorph.min.js", "uplot.min.js", "uplot.min.css"}
    assert {name: sha256((static / name).read_bytes()).hexdigest() for name in listed} == listed
