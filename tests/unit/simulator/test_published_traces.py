"""Tests of published traces: what ships, and its use as arrivals of streams."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from hatch_build import make_package
from schemas.errors import OperatorError
from simulator.trace import Trace
from simulator.traces.published_files import client_windows, published_requests
from simulator.workloads.arrival_process import ArrivalSample
from simulator.workloads.description import parse_workload, read_workload
from simulator.workloads.mix import KindTemplate, Mix
from simulator.workloads.servegen import ServeGen
from simulator.workloads.workload import generate

TRACES = Path(__file__).parents[3] / "simulator" / "traces"
FILES = sorted(path.name for kind in ("gz", "xz") for path in TRACES.glob(f"*.csv.{kind}"))


def drawn(text: str, seed: int = 1) -> Trace:
    return generate(parse_workload(text), seed)


def test_wheel_contains_traces_and_their_attribution(tmp_path: Path) -> None:
    make_package({"simulator": TRACES.parent}, tmp_path)
    shipped = {path.name for path in (tmp_path / "infaas" / "simulator" / "traces").iterdir()}
    assert shipped >= {*FILES, "README.md"}
    assert len(FILES) == 4
    page = (TRACES / "README.md").read_text()
    attribution = page[page.index("## Attribution") :]
    assert [name for name in FILES if f"`{name}`" not in attribution] == []


@pytest.mark.parametrize(
    ("name", "requests", "last_s"),
    [
        ("azure-conv-2023", 19_366, 3501.722),
        ("azure-code-2023", 8_819, 3435.948),
        ("mooncake-conversation-2025", 12_031, 3536.999),
    ],
)
def test_published_trace_is_replayed_at_speed(name: str, requests: int, last_s: float) -> None:
    trace = drawn(f"{name}:speed=10,start=5")
    assert len(trace) == requests
    assert (trace.time_s[0], trace.duration_s) == (5, pytest.approx(5 + last_s / 10))
    part = drawn(f"{name}:speed=10,seconds=60")
    assert len(part) == np.searchsorted(published_requests(name).time_s, 600)


def test_published_trace_refuses_longer_stream() -> None:
    with pytest.raises(OperatorError, match="azure-code-2023 ends after 3436 s; lower `seconds` or `speed`"):
        drawn("azure-code-2023:seconds=400,speed=10")


def test_unit_sizes_scale_units(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    batches = {"sizes": "units", "scale": 0.01, "most": 50}
    path.write_text(
        json.dumps({"streams": [{"arrivals": {"process": "azure-conv-2023"}, "mix": {"batches": batches}}]})
    )
    trace = generate(read_workload(str(path)), 0)
    batch = np.array([kind.batch for kind in trace.kinds])[trace.kind]
    assert batch.tolist() == [
        min(max(round(units / 100), 1), 50) for units in published_requests("azure-conv-2023").units.tolist()
    ]


def test_servegen_has_rate_of_windows() -> None:
    windows = client_windows()
    assert windows.client.max() == 420
    expected = 0.2 * windows.rate_per_s[windows.window == 0].sum() + 0.2 * windows.rate_per_s[windows.window == 1].sum()
    counts = [len(drawn("servegen:seconds=1200,scale=0.2", seed)) / 600 for seed in (1, 2)]
    assert counts[0] != counts[1]
    assert counts == pytest.approx([expected, expected], rel=0.1)


def test_servegen_clients_have_recorded_rate_and_cv() -> None:
    """Clients of moderate burstiness: with larger CVs a window of ten minutes is too short to estimate them."""
    windows = client_windows()
    (rows,) = np.nonzero((windows.window == 3) & (windows.rate_per_s > 20) & (windows.cv < 1.6))
    assert len(rows) == 10
    sample = ServeGen(offset=1800).sample(600, np.random.default_rng(1))
    assert sample.client is not None
    for row in rows.tolist():
        gaps = np.diff(sample.time_s[sample.client == windows.client[row]])
        assert 1 / gaps.mean() == pytest.approx(windows.rate_per_s[row], rel=0.1)
        assert gaps.std() / gaps.mean() == pytest.approx(windows.cv[row], rel=0.1)


def test_servegen_repeats_recording_and_cuts_windows() -> None:
    sample = ServeGen(category="reason/deepseek-r1", offset=14 * 86_400 + 900).sample(100, np.random.default_rng(1))
    windows = client_windows()
    rows = (windows.category == "reason/deepseek-r1") & (windows.window == 1)
    assert sample.client is not None
    assert {*sample.client.tolist()} <= {*windows.client[rows].tolist()}
    assert len(sample.time_s) == pytest.approx(100 * windows.rate_per_s[rows].sum(), rel=0.3)
    assert 0 <= sample.time_s[0] <= sample.time_s[-1] < 100


def test_queries_of_client_have_one_kind() -> None:
    random = np.random.default_rng(1)
    client = random.integers(0, 50, 5000)
    mix = Mix(kinds=(KindTemplate(latency_ms=50), KindTemplate(latency_ms=500)), tasks=("a", "b", "c"))
    trace = mix.trace(ArrivalSample(np.arange(5000.0), client=client), random)
    kinds = defaultdict[int, set[int]](set)
    for number, kind in zip(client.tolist(), trace.kind.tolist(), strict=True):
        kinds[number].add(kind)
    assert {len(of_client) for of_client in kinds.values()} == {1}
    assert len(trace.kinds) == 6
