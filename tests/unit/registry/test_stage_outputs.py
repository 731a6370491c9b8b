"""Tests of `ComputeOutputs`: outputs of a variant, computed as on a worker."""

from pathlib import Path

import numpy as np
import pytest

from registry.pipeline.stage_outputs import ComputeOutputs
from registry.samples import load_arrays, save_arrays
from runtimes.protocol import LoadOptions
from schemas.rows.processing import Processing, Tokenise
from schemas.rows.tensor_spec import TensorSpec
from tests.processing_files import text_model, write_tokenizer

TOKENS = tuple(TensorSpec(name=name, datatype="INT64", shape=(-1, -1)) for name in ("input_ids", "attention_mask"))


@pytest.mark.parametrize("mixes", [True, False])
def test_compute_outputs_pads_texts_only_if_lengths_mix(tmp_path: Path, mixes: bool) -> None:
    """The model counts each padded position as a bad word."""
    step = ComputeOutputs(
        artifact=text_model(tmp_path / "text.onnx", masked=False),
        runtime="onnx",
        hardware="cpu",
        options=LoadOptions(precision="fp32", max_batch=2),
        samples=tmp_path / "rows",
        outputs=tmp_path / "outputs",
        processing=Processing(before=Tokenise(tokenizer=str(write_tokenizer(tmp_path / "t.json"))), tensors=TOKENS),
        mixes_lengths=mixes,
    )
    save_arrays(step.samples, {"text": np.array([b"good", b"good film"], object)})
    step.run()
    assert load_arrays(step.outputs)["scores"].tolist() == [[1.0 if mixes else 0.0, 1.0], [0.0, 1.0]]
