"""The example of OpenAI's clients on tiny models: a task of texts, and one of vectors.

`OPENAI_CLIENTS` names the Python whose packages it uses; by default it is this one, which has OpenAI's client.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Final

import numpy as np

from tests.doc_commands import ROOT
from tests.gguf_models import counted, write_gguf
from tests.processes import output_of
from tests.processing_files import text_model, write_tokenizer
from tests.system.infaas.conftest import Cli

EXAMPLE: Final = ROOT / "docs/examples/openai_clients.py"
_PYTHON: Final = os.environ.get("OPENAI_CLIENTS", sys.executable)
_PACKAGES: Final = ("openai", "litellm", "langchain_openai")


async def register_tasks(cli: Cli, folder: Path) -> None:
    """Register the tasks that the example asks, `chat` and `sentences`, each with one model."""
    rows = [{"prompt": f"question {number}", "answer": counted(str(number), 8)} for number in range(10)]
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    file, labels = write_gguf(folder / "example.gguf", counts=True), f"--validation={folder / 'labels.jsonl'}"
    await cli.json("register", str(file), "--task=chat", "--name=example", labels, "--variant=llamacpp-fp16")
    encoder, texts = text_model(folder / "counts.onnx"), folder / "texts.npz"
    np.savez(texts, text=np.array([b"good film", b"bad film", b"a very good film", b"bad"] * 8))
    words = ("--task=sentences", "--name=counts", "--measure=cosine", "--variant=onnx-fp32")
    files = (f"--tokenizer={write_tokenizer(folder / 'tokenizer.json')}", f"--calibration={texts}")
    await cli.json("register", str(encoder), *words, *files)


async def check_example(cli: Cli, folder: Path) -> None:
    """Run the example, show its output, and check that each installed client got what it asked for."""
    await register_tasks(cli, folder)
    gateway = (await cli.state())["gateway"]
    variables = {"INFAAS_GATEWAY": gateway, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # else it asks another site
    code, shown = await output_of(EXAMPLE, env=variables, python=_PYTHON)
    print(shown)
    assert code == 0, shown
    assert "openai: batch completed with 3 answers" in shown
    for package in _PACKAGES:
        if f"{package} is not installed" not in shown:
            client = package.replace("_", "-")
            assert f"{client}: 3 vectors of 2" in shown
            assert re.search(rf"^{client}: streamed \W.{{16}}\W$", shown, re.MULTILINE), shown
