"""The program that torch's runtimes are measured by is the model that the others are."""

from pathlib import Path

import numpy as np
import pytest

from bench.throughput.torch_program import write_program
from bench.throughput.worker import MODEL
from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions
from zoo.samples import labelled


@pytest.mark.torch
def test_it_computes_what_the_onnx_file_does(tmp_path: Path) -> None:
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
