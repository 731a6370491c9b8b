"""Test of a published model with a recurrent state and a scalar: the speech detector in the package silero-vad."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from broker.producing.producer import Producer
from tests.integration.workers.conftest import Site
from tests.integration.workers.test_sequences import answers, asked, registered

pytestmark = pytest.mark.needs_minutes

SAMPLES: Final = {16_000: 576, 8_000: 288}
"""Samples of a step by sampling rate: 32 ms, and 4 ms before them."""
STEPS = 6


class Step(NamedTuple):
    """Inputs and outputs of a step of two recordings; the state has the batch as its second axis."""

    x: NDArray[np.float32]
    state: NDArray[np.float32]
    output: NDArray[np.float32]
    next_state: NDArray[np.float32]


def model_file() -> Path:
    """Return the model in the installed package, which is not imported."""
    found = find_spec("silero_vad")
    assert found is not None, "the package silero-vad is missing: make setup"
    assert found.origin is not None
    return Path(found.origin).parent / "data" / "silero_vad.onnx"


def steps(rate: int) -> list[Step]:
    """Return the steps of two recordings that grow louder, computed by onnxruntime alone."""
    session = onnxruntime.InferenceSession(model_file(), providers=["CPUExecutionProvider"])
    random, state, found = np.random.default_rng(rate), np.zeros((2, 2, 128), np.float32), list[Step]()
    for number in range(STEPS):
        x = random.normal(scale=0.05 * (1 + number), size=(2, SAMPLES[rate])).astype(np.float32)
        output, following = session.run(None, {"input": x, "state": state, "sr": np.array(rate)})
        found.append(Step(x, state, np.asarray(output), np.asarray(following)))
        state = found[-1].next_state
    return found


async def test_speech_detector_is_served_at_both_of_its_sampling_rates(
    site: Site, producer: Producer, tmp_path: Path
) -> None:
    random, recorded = np.random.default_rng(0), {rate: steps(rate) for rate in SAMPLES}
    rows: dict[str, Any] = {
        "input": random.normal(scale=0.1, size=(40, SAMPLES[16_000])).astype(np.float32),
        "state": random.normal(scale=0.1, size=(40, 2, 128)).astype(np.float32),
        "sr": np.array(16_000),
    }
    np.savez(tmp_path / "rows.npz", **rows)
    await registered(site, model_file(), tmp_path / "rows.npz", output="output")
    every = [(rate, step) for number in range(STEPS) for rate in SAMPLES for step in [recorded[rate][number]]]
    queries = [
        (2, asked({"input": step.x, "state": step.state.swapaxes(0, 1)}, parameters={"sr": rate}))
        for rate, step in every
    ]
    for (_, step), outputs in zip(every, await answers(site, producer, queries), strict=True):
        np.testing.assert_allclose(outputs["output"], step.output, atol=1e-5)
        np.testing.assert_allclose(outputs["stateN"], step.next_state.swapaxes(0, 1), atol=1e-5)
