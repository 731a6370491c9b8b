"""Generates the committed Python code of the gateway's `.proto`: `python tools/generate_grpc.py`, in `make docs`.

protoc's code registers messages in the descriptor pool of the process. Two packages with the same protocol
(tritonclient, KServe's client) conflict there. So the generated code gets a descriptor pool of its own.
"""

import subprocess
import sys
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

PROTO: Final = Path("gateway/grpc/inference.proto")
_TIMEOUT_S: Final = 60
_SHARED_POOL: Final = "_descriptor_pool.Default()"
_OWN_POOL: Final = "_descriptor_pool.DescriptorPool()"


def generated(root: Path) -> dict[Path, str]:
    """Generate the files; returns their texts by path below `root`, the folder of the repository."""
    proto = root / PROTO
    common = resources.files("grpc_tools") / "_proto"
    with TemporaryDirectory() as folder:
        words = [f"-I{proto.parent}", f"-I{common}", f"--python_out={folder}", f"--pyi_out={folder}", str(proto)]
        # A process of its own: protoc conflicts with other libraries that load protobuf in C++.
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *words], check=True, timeout=_TIMEOUT_S)
        files = sorted(Path(folder).iterdir())
        return {PROTO.parent / file.name: file.read_text().replace(_SHARED_POOL, _OWN_POOL) for file in files}


def main() -> int:
    """Write the files. Returns the exit code."""
    root = Path(__file__).parent.parent
    for path, text in generated(root).items():
        (root / path).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
