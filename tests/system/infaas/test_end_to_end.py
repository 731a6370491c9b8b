"""Test of the whole system with a real model, queried from outside."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions
from tests.processes import output_of
from tests.system.infaas.conftest import Cli
from zoo.samples import DATA, labelled

SCRIPT = Path(__file__).with_name("triton_client.py")
MODEL = "digits_linear.onnx"
TASK, NAME = "asked-by-triton", "end-to-end"
VARIANT = f"{NAME}.onnx-fp32.cpu"


async def test_tritonclient_and_explain_on_a_real_model(shared: Cli, tmp_path: Path) -> None:
    state = await shared.state()
    images, some = labelled("digits")[0]["input"][:4], tmp_path / "some.npy"
    np.save(some, images)
    made = await shared.register(MODEL, f"--name={NAME}", "--max-batch=4", task=TASK, data="digits")
    assert [variant["name"] for variant in made] == [VARIANT]
    address = state["gateway"].removeprefix("http://")
    code, output = await output_of(SCRIPT, address, TASK, NAME, some)
    assert code == 0, output
    _check_triton(json.loads(output.splitlines()[-1]), images)
    await _check_explanations(shared, state["gateway"])


def _check_triton(seen: dict[str, Any], asked: "np.ndarray[Any, np.dtype[np.float32]]") -> None:
    alone = find_runtime("onnx").load(DATA / MODEL, "cpu", LoadOptions(precision="fp32", threads=1))
    expected = alone.infer({"input": asked})["logits"].astype(np.float32)
    assert (seen["live"], seen["ready"], seen["model_ready"], seen["absent_ready"]) == (True, True, True, False)
    assert seen["metadata"]["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]
    assert seen["metadata"]["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}]
    assert seen["config"]["max_batch_size"] == 4
    assert {entry["name"] for entry in seen["index"]} >= {TASK, NAME, VARIANT}
    for form in ("json", "binary", "compressed", "architecture"):
        np.testing.assert_allclose(seen[form]["values"], expected, rtol=1e-4, err_msg=form)
        assert seen[form]["id"] == "mine"
        assert seen[form]["parameters"]["variant"] == VARIANT
        assert 0.9 < seen[form]["parameters"]["accuracy"] < 1
    assert seen["server"]["name"] == "infaas"
    assert seen["error"].startswith("404 ")
    assert "autoscaler" in seen["unload"]
    stats = seen["statistics"]["inference_stats"]
    steps = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    assert {stats[step]["count"] for step in steps} == {3}


async def _check_explanations(cli: Cli, gateway: str) -> None:
    """Run `explain` in the system's home, and through a gateway in a home without a system."""
    impossible = ("explain", TASK, "--min-accuracy=0.99")
    elsewhere = {"INFAAS_URL": gateway, "INFAAS_HOME": str(cli.home / "elsewhere")}
    async with asyncio.TaskGroup() as tasks:
        answered = tasks.create_task(cli.json("explain", TASK))
        refused = tasks.create_task(cli.run(*impossible, "--json"))
        shown = tasks.create_task(cli.run(*impossible))
        far = tasks.create_task(cli.run(*impossible, "--json", **elsewhere))
        report = tasks.create_task(cli.json("status", "--wait", **elsewhere))
    chosen = answered.result()
    assert (chosen["chosen"], chosen["worker"]) == (VARIANT, "cpu-0")
    assert chosen["considered"][0]["verdict"] == "chosen"

    code, out, err = refused.result()
    assert code == 2
    assert "error: " in err
    told = json.loads(out)
    assert told["reason"].startswith("unsatisfiable: ")
    assert [(row["variant"], row["verdict"]) for row in told["considered"]] == [(VARIANT, "is not accurate enough")]

    code, out, err = far.result()
    assert (code, json.loads(out)["considered"][0]["verdict"]) == (2, "is not accurate enough"), err
    assert (report.result()["problems"], report.result()["workers"]) == ([], 1)

    code, out, _ = shown.result()
    assert code == 2
    assert VARIANT in out
    assert "is not accurate enough" in out
