"""Test of the artifact cache, shared by several processes."""

import subprocess
import sys
from pathlib import Path

from registry.artifact_cache import ArtifactCache


def test_artifact_cache_keeps_file_held_by_other_process(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"model")
    hold = (
        "import sys; from pathlib import Path; from registry.artifact_cache import ArtifactCache\n"
        "with ArtifactCache(Path(sys.argv[1]).parent, 0).held(Path(sys.argv[1]), lambda: None):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        ArtifactCache(tmp_path, 0).shrink()
        assert path.exists()
        other.kill()
    ArtifactCache(tmp_path, 0).shrink()
    assert not path.exists()
