"""Archive of the classes that Apache Kafka loads, with which a JVM starts in two thirds of the CPU time.

It is made once for each Java and set of jars, and lies beside the jars. Each JVM of a test finds it by a variable of
the environment. A JVM that it does not fit ignores it, and without it a JVM only starts more slowly.
"""

import asyncio
import fcntl
import hashlib
import logging
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from broker.kafka.servers.apache import ApacheKafka, find_java

_OPTIONS = "JDK_JAVA_OPTIONS"
_TERMINATED = 143
"""Exit code of a JVM that ended by SIGTERM, after it had written its classes."""
_log = logging.getLogger(__name__)


def use_class_archive(jars: Path) -> None:
    """Let each JVM that starts from now on use the archive for these jars; try to make it if it does not exist."""
    if _OPTIONS in os.environ:
        return
    version = subprocess.run([find_java(), "-version"], capture_output=True, check=True, timeout=60).stderr
    archive = jars.with_name(f"{jars.name}-{hashlib.sha256(version).hexdigest()[:12]}.jsa")
    with archive.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several suites start at once, and each JVM would take longer to end
        if not archive.exists():
            _make(archive)
    os.environ[_OPTIONS] = f"-Xshare:auto -XX:SharedArchiveFile={archive} -Xlog:disable" if archive.exists() else ""


def _make(archive: Path) -> None:
    """Write the classes that a broker has loaded at its end. A broker that is killed before has written none."""
    with TemporaryDirectory(dir=archive.parent) as folder:
        made = Path(folder) / archive.name
        os.environ[_OPTIONS] = f"-XX:ArchiveClassesAtExit={made}"
        try:
            code = asyncio.run(_start_and_stop(Path(folder)))
        finally:
            del os.environ[_OPTIONS]
        if code == _TERMINATED:
            made.replace(archive)
        else:
            _log.warning(
                "Kafka ended with code %d, before it had written its classes; tests start it without them", code
            )


async def _start_and_stop(folder: Path) -> int:
    async with ApacheKafka(folder) as broker:
        ended = asyncio.ensure_future(broker.ended())
    return await ended
