"""Tests of the peer servers: requests, scripts, configuration, and the check of their answers."""

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from bench.load.http_message import RawAnswer, SampledAnswer
from bench.peers.peer import ServedFile, ServerSettings, raw_body, raw_output, script_environment
from bench.peers.peers import PEERS
from bench.peers.scripts.onnx_model import VARIABLE, OnnxModel, PeerSettings
from bench.peers.workloads import INT8, WORKLOADS, PeerWorkload, model_file, reference_check, reference_outputs
from schemas.oip import decode_request

SMALL = WORKLOADS["S"]
INT8_MIX = WORKLOADS["sentiment mix"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnnxModel:
    served = ServedFile(model_file(SMALL, tmp_path), SMALL.inputs[0])
    monkeypatch.setenv(VARIABLE, script_environment(served, ServerSettings(), 1234)[VARIABLE])
    return OnnxModel(PeerSettings())


def test_onnx_model_answers_alone_and_in_batches(model: OnnxModel, tmp_path: Path) -> None:
    bodies = [raw_body(inputs) for inputs in SMALL.inputs]
    reference = reference_outputs(SMALL, model_file(SMALL, tmp_path))
    for answers in ([model.answer(body) for body in bodies], model.answer_all(bodies), model.answer_all(bodies[:1])):
        for answer, expected in zip(answers, reference, strict=False):
            np.testing.assert_allclose(raw_output(answer), expected, atol=SMALL.tolerance)


def test_reference_check_finds_swapped_answers(tmp_path: Path) -> None:
    reference = reference_outputs(SMALL, model_file(SMALL, tmp_path))
    check = reference_check(SMALL, reference, lambda answer: raw_output(answer.body))
    right = [SampledAnswer(at, RawAnswer({}, expected.tobytes())) for at, expected in enumerate(reference)]
    check(right)
    with pytest.raises(RuntimeError, match="to input 1 "):
        check([SampledAnswer(1, right[0].answer)])
    with pytest.raises(RuntimeError, match="to input 0 "):
        check([SampledAnswer(0, RawAnswer({}, reference[0][:, :3].tobytes()))])


@pytest.mark.parametrize(
    ("answer", "is_right"),
    [
        ((1.0, 0.0), True),
        ((2.0, -1.0), True),
        ((3.1, -2.1), True),
        ((3.4, -2.4), False),
        ((2.0, 1.0), False),
        ((float("nan"), -1.0), False),
    ],
    ids=["alone", "in a batch", "in another batch", "another query's", "of no batch", "no number"],
)
def test_reference_check_accepts_answers_of_its_batches(answer: tuple[float, float], is_right: bool) -> None:
    reference = [np.array([(1.0, 0.0), (2.5, -1.5)], np.float32), np.array([(3.4, -2.4)], np.float32)]
    check = reference_check(INT8_MIX, reference, lambda answer: np.frombuffer(answer.body, np.float32)[None])
    sample = SampledAnswer(0, RawAnswer({}, np.array(answer, np.float32).tobytes()))
    with nullcontext() if is_right else pytest.raises(RuntimeError, match="to input 0 "):
        check([sample])


def test_reference_outputs_of_int8_cover_batches(tmp_path: Path) -> None:
    int8 = PeerWorkload("int8", (SMALL.architecture, INT8), objective_ms=50, accuracies=(0.9,), heavy=False)
    reference = reference_outputs(int8, model_file(int8, tmp_path))
    assert {answers.shape for answers in reference} == {(9, 10)}, "alone and in eight batches"
    assert any(np.ptp(answers, axis=0).max() > 0 for answers in reference), "its scales depend on the batch"
    assert {answers.shape for answers in reference_outputs(SMALL, model_file(SMALL, tmp_path))} == {(1, 10)}


@pytest.mark.parametrize("name", [name for name in PEERS if name != "triton"])
def test_peer_request_contains_all_tensors(name: str, tmp_path: Path) -> None:
    inputs = SMALL.inputs[0]
    request = PEERS[name].request(inputs)
    raw = raw_body(inputs)
    assert request.path.startswith("/")
    assert len(raw) <= len(request.body) < 1.5 * len(raw)


def test_triton_request_uses_binary_extension() -> None:
    inputs = SMALL.inputs[0]
    request = PEERS["triton"].request(inputs)
    asked = decode_request(request.body, int(request.headers["inference-header-content-length"]))
    assert asked.binary_output
    np.testing.assert_array_equal(asked.inputs["input"], inputs["input"])


def test_triton_configuration_has_the_settings(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    server = tmp_path / "lib" / "python3.11" / "site-packages" / "pytriton" / "tritonserver"
    (server / "backends" / "python").mkdir(parents=True)
    served = ServedFile(tmp_path / "model.onnx", SMALL.inputs[0])
    settings = ServerSettings(workers=3, max_batch=16, batch_wait_ms=0.5)
    launch = PEERS["triton"].launch(python, served, settings, 8000, tmp_path / "run")
    config = (tmp_path / "run" / "models" / "model" / "config.pbtxt").read_text()
    assert 'name: "input" data_type: TYPE_FP32 dims: [1, 28, 28]' in config
    assert "count: 3" in config
    assert "max_batch_size: 16" in config
    assert "max_queue_delay_microseconds: 500" in config
    assert json.loads(launch.environment[VARIABLE])["file"] == str(served.file)


def test_mlserver_has_neither_metrics_nor_access_log(tmp_path: Path) -> None:
    served = ServedFile(tmp_path / "model.onnx", SMALL.inputs[0])
    PEERS["mlserver"].launch(tmp_path / "bin" / "python", served, ServerSettings(workers=0), 8000, tmp_path / "run")
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["metrics_endpoint"] is None
    assert settings["debug"] is False
    assert settings["http_port"] == 8000


def test_server_settings_as_text() -> None:
    assert str(ServerSettings(workers=0)) == "no workers"
    assert str(ServerSettings(workers=1)) == "1 worker"
    assert str(ServerSettings(max_batch=16, batch_wait_ms=0.5)) == "2 workers, batches up to 16 after 0.5 ms"
