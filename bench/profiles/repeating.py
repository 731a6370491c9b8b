"""Repeatability of profiles: the same profile several times, each by a new process, as in a registration."""

import tempfile
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final

from bench.core.figures import Figure, percentile, plain, within
from registry.pipeline.isolation import run_step
from registry.pipeline.measurement import Measurement, MeasureVariant
from registry.samples import save_arrays
from runtimes.protocol import LoadOptions
from schemas.defaults import BATCH_LIMIT
from zoo.samples import DATA, labelled

ROUNDS: Final = 6
_MODELS: Final = (("mnist_resnet.onnx", "mnist"), ("sent_textcnn.onnx", "sentiment"), ("mnist_cnn_s.onnx", "mnist"))
_ROWS: Final = 256
_MOST: Final = 5.0


async def measure() -> list[Figure]:
    """Measure the differences between profiles; takes a minute on a quiet machine."""
    found: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    noisy = 0
    with tempfile.TemporaryDirectory(prefix="infaas-bench-") as folder:
        for _ in range(ROUNDS):
            for file, task in _MODELS:
                for point in (await _profile(DATA / file, task, Path(folder))).latency:
                    found[file, point.batch].append(point.p50_s)
                    noisy += point.noise > 0.1
    changes = [abs(a - b) / min(a, b) * 100 for series in found.values() for a, b in pairwise(series)]
    name = "latencies of repeated profiles"
    return [
        plain(f"{name}: median difference", "none", median(changes), "%"),
        within(f"{name}: p90 of the difference", "none", percentile(changes, 0.9), "%", _MOST),
        plain(f"{name}: marked noisy, of {len(found) * ROUNDS}", "none", noisy),
    ]


async def _profile(model: Path, task: str, folder: Path) -> Measurement:
    inputs, _labels = labelled(task)
    samples = folder / "samples.npz"
    save_arrays(samples, {name: array[:_ROWS] for name, array in inputs.items()})
    options = LoadOptions(precision="fp32", threads=1, max_batch=BATCH_LIMIT)
    return await run_step(MeasureVariant(model, "onnx", "cpu", options, samples, folder / "outputs"), Measurement)
