"""Tests of the bench's torch program: it computes the same model as the ONNX file."""

from pathlib import Path

import numpy as np
import pytest

from bench.throughput.runtimes import write_program
from bench.throughput.worker import MODEL
from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions
from zoo.samples import labelled


@pytest.mark.needs_torch
def test_torch_program_matches_onnx_model(tmp_path: Path) -> None:
    write_program(MODEL, tmp_path / "program")
    inputs, _labels = labelled("mnist")
    rows = {"input": inputs["input"][:5]}
    scores = [
        np.asarray(
            find_runtime(runtime).load(file, "cpu", LoadOptions(precision="fp32")).infer(rows)["logits"], np.float32
        )
        for runtime, file in (("onnx", MODEL), ("torch-eager", tmp_path / "program"))
    ]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-3, atol=1e-3)
