"""Tests of registration steps in child processes: errors keep their type, crashes do not reach the registrar."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import pytest
from onnx import helper, numpy_helper

from process.sandbox import sandbox_obstacle, warn_once
from registry.importers.imported import ImportedModel
from registry.importers.importing import ImportModel
from registry.pipeline.generation import GenerateVariant
from registry.pipeline.inspection import Inspection, InspectModel
from registry.pipeline.isolation import run_step
from registry.pipeline.measurement import Measurement, MeasureVariant
from registry.pipeline.source_format import SourceFormat
from registry.pipeline.step_process import StepLimits
from registry.recipes import GeneratorKind
from registry.samples import save_arrays
from runtimes.protocol import LoadOptions
from schemas.errors import InvalidRequest, ModelFailed, OperatorError
from tests.processes import begun_with, words_of
from tests.waiting import until


def _children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "registry.pipeline.step_process" in " ".join(words_of(p))]


async def _child() -> psutil.Process:
    return (await until(_children))[0]


def _inspect(model: Path) -> InspectModel:
    return InspectModel(model, SourceFormat.ONNX, None, None, model.with_suffix(".safe"))


def _endless(folder: Path) -> InspectModel:
    """Return a step that never ends by itself: it reads a pipe without a writer."""
    os.mkfifo(folder / "endless.onnx")
    return _inspect(folder / "endless.onnx")


def _measure(model: Path, folder: Path, runtime: str = "onnx") -> MeasureVariant:
    samples = folder / "samples.npz"
    save_arrays(samples, {"x": np.zeros((16, 4), np.float32)})
    return MeasureVariant(
        model, runtime, "cpu", LoadOptions(precision="fp32", max_batch=1), samples, folder / "outputs"
    )


async def test_step_returns_result(make_model: Callable[..., Path]) -> None:
    model = make_model()
    inspection = await run_step(_inspect(model), Inspection)
    assert [spec.name for spec in inspection.signature.inputs] == ["x"]
    assert inspection.file == model


async def test_step_error_keeps_type_and_message(make_model: Callable[..., Path]) -> None:
    odd = make_model(nodes=[helper.make_node("NoSuchOperator", ["x"], ["scores"])])
    with pytest.raises(InvalidRequest, match="is not a valid ONNX model"):
        await run_step(_inspect(odd), Inspection)


async def test_step_crash_is_model_failed(tmp_path: Path) -> None:
    async def crash() -> None:
        (await _child()).send_signal(signal.SIGSEGV)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(crash())
        with pytest.raises(ModelFailed, match=r"crashed \(SIGSEGV\)"):
            await run_step(_endless(tmp_path), Inspection)


async def test_step_is_killed_at_timeout(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match="did not finish in time"):
        await run_step(_endless(tmp_path), Inspection, StepLimits(timeout_s=0.01))
    assert not _children()


async def test_cancelled_step_kills_process(tmp_path: Path) -> None:
    step = asyncio.ensure_future(run_step(_endless(tmp_path), Inspection))
    await _child()
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert not _children()


async def test_step_environment_has_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("INFAAS_POSTGRES", "INFAAS_KAFKA_SASL_PASSWORD", "AWS_SECRET_ACCESS_KEY", "INFAAS_SIGNING_SECRET")
    for name in secrets:
        monkeypatch.setenv(name, "sesame")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    step = asyncio.ensure_future(run_step(_endless(tmp_path), Inspection))
    found = (await _child()).environ()
    step.cancel()
    await asyncio.wait({step})
    assert "sesame" not in found.values()
    assert (found["OMP_NUM_THREADS"], found["PATH"]) == ("1", os.environ["PATH"])


async def test_step_memory_limit_ends_step(make_model: Callable[..., Path], tmp_path: Path) -> None:
    """The step fills 4 GB and may take half of that. The machine has more, so only the limit can end it."""
    huge = numpy_helper.from_array(np.array([10**9], np.int64))
    nodes = [
        helper.make_node("Constant", [], ["shape"], value=huge),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "sum"], ["scores"]),
    ]
    step = _measure(make_model(nodes=nodes), tmp_path)
    with pytest.raises(ModelFailed, match="exceeds its memory limit of 2000 MiB"):
        await run_step(step, Measurement, StepLimits(memory_bytes=2000 << 20))


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
async def test_runtime_telemetry_writes_no_files(
    make_model: Callable[..., Path], runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(home))
    await run_step(_measure(make_model(), tmp_path, runtime), Measurement)
    assert list(home.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel does not group sessions")
async def test_step_yields_to_other_sessions(tmp_path: Path) -> None:
    """The kernel grants each session a share of the cores; within a session alone a nice value has no effect."""
    step = asyncio.ensure_future(run_step(_endless(tmp_path), Inspection, StepLimits(nice=19)))
    child = await _child()
    group = Path("/proc", str(child.pid), "autogroup")
    await until(lambda: group.read_text().endswith(" nice 19\n"))
    step.cancel()
    await asyncio.wait({step})


async def test_lower_session_priority_affects_threads_that_exist() -> None:
    """A runtime may have started threads when its step has been timed."""
    program = """
import os, threading
from process.cpus import lower_session_priority

threading.Thread(target=threading.Event().wait, daemon=True).start()
lower_session_priority(19)
print(*(os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in os.listdir("/proc/self/task")))
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    said, _ = await process.communicate()
    assert said.split() == [b"19"] * 2


class StepTurns(asyncio.Lock):
    """Turns whose first one is asked for by a step, which then waits for the answer."""

    def __init__(self, asked: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._asked = asked

    async def acquire(self) -> Literal[True]:
        await self._asked()
        return await super().acquire()


async def test_measurement_waits_for_its_turn(make_model: Callable[..., Path], tmp_path: Path) -> None:
    asked, free = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        asked.set()
        await free.wait()

    async with asyncio.TaskGroup() as tasks:
        step = tasks.create_task(run_step(_measure(make_model(), tmp_path), Measurement, turns=StepTurns(hold)))
        await asked.wait()
        child = await _child()
        assert not step.done()
        free.set()
        assert (await step).latency
    assert not child.is_running()


async def test_crashed_measurement_gives_its_turn_back(make_model: Callable[..., Path], tmp_path: Path) -> None:
    async def crash() -> None:
        (await _child()).send_signal(signal.SIGSEGV)

    turns = StepTurns(crash)
    with pytest.raises(ModelFailed, match=r"crashed \(SIGSEGV\)"):
        await run_step(_measure(make_model(), tmp_path), Measurement, turns=turns)
    assert not turns.locked()


PROBE = """
import ctypes, errno, json, os, socket, sys

if "registry.pipeline.step_process" in sys.orig_argv:
    secrets, address = {secrets!r}, {address!r}
    found = []
    with open("/proc/self/environ") as file:
        if "sesame" in file.read() or "sesame" in os.environ.values():
            found.append("a secret of the environment")
    for file in secrets:
        try:
            with open(file) as content:
                found.append(file + " to read")
        except OSError:
            pass
        try:
            with open(os.path.join(os.path.dirname(file), "made"), "x"):
                pass
        except OSError:
            pass
    try:
        socket.create_connection(address, 2)
        found.append("the network")
    except OSError:
        pass
    others = [name for name in os.listdir("/proc") if name.isdecimal()]
    if len(others) > 3:
        found.append(str(len(others)) + " processes")
    try:
        os.kill({parent}, 0)
        found.append("its parent")
    except ProcessLookupError:
        pass
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000) == 0:
        found.append("a user namespace")
    if libc.syscall(425, 1, None) != -1 or ctypes.get_errno() != errno.EPERM:
        found.append("io_uring")
    inherited = [name for name in os.listdir("/proc/self/fd") if int(name) > 3]
    if inherited:
        found.append("descriptors " + ", ".join(inherited))
    print(json.dumps(found), flush=True)
    os._exit(3)
"""


@pytest.fixture
def sandbox() -> None:
    if sandbox_obstacle():
        pytest.skip(sandbox_obstacle())


@pytest.mark.needs_sandbox
@pytest.mark.usefixtures("sandbox")
async def test_sandboxed_step_reaches_only_its_files(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe runs before all other code of the process, as an exploit in a model file might."""
    home = tmp_path / "home"
    home.mkdir()
    secret = home / "password"
    secret.write_text("sesame")
    monkeypatch.setenv("INFAAS_POSTGRES", "sesame")
    monkeypatch.setenv("HOME", str(home))
    read, write = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as server:
        places = {"secrets": [str(secret), "/etc/shadow"], "address": server.getsockname(), "parent": os.getpid()}
        variables = begun_with(PROBE.format(**places), tmp_path)
        monkeypatch.setenv("PYTHONPATH", variables["PYTHONPATH"])
        os.set_inheritable(write, True)
        with pytest.raises(ModelFailed, match=r"exit code 3: \[\]$"):
            await run_step(_inspect(make_model()), Inspection)
    os.close(read)
    os.close(write)
    assert [*home.iterdir()] == [secret]


@pytest.mark.needs_sandbox
@pytest.mark.usefixtures("sandbox")
async def test_sandboxed_step_follows_links_of_its_folder(make_model: Callable[..., Path], tmp_path: Path) -> None:
    """A Hugging Face cache is such a folder: links to files elsewhere."""
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshot"
    for one in (blobs, folder):
        one.mkdir()
    make_model().rename(blobs / "1")
    (folder / "model.onnx").symlink_to("../blobs/1")
    (blobs / "2").write_text("{}")
    (folder / "config.json").symlink_to("../blobs/2")
    found = await run_step(ImportModel(folder, tmp_path / "target"), ImportedModel)
    assert found.file == folder / "model.onnx"


@pytest.mark.parametrize("path", ["relative", "absolute"])
async def test_step_output_files_arrive(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path(make_model().name) if path == "relative" else make_model()
    step = GenerateVariant(GeneratorKind.DYNAMIC_INT8, source, source.with_name("made.onnx"), None)
    await run_step(step, str)
    assert (tmp_path / "made.onnx").stat().st_size > 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["linear.onnx", "made.onnx"]  # noqa: ASYNC240


@pytest.mark.parametrize("mode", ["required", "auto", "off"])
async def test_missing_bubblewrap_follows_setting(
    make_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    mode: str,
) -> None:
    for cached in (sandbox_obstacle, warn_once):
        cached.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("INFAAS_STEP_SANDBOX", mode)
    try:
        if mode == "required":
            with pytest.raises(OperatorError, match=r"INFAAS_STEP_SANDBOX=required, but .* bwrap is not installed"):
                await run_step(_inspect(make_model()), Inspection)
        else:
            await run_step(_inspect(make_model()), Inspection)
            await run_step(_inspect(make_model()), Inspection)
    finally:
        for cached in (sandbox_obstacle, warn_once):
            cached.cache_clear()
    warned = [record.message for record in caplog.records if "without a sandbox: bwrap is not" in record.message]
    assert len(warned) == (mode == "auto")
