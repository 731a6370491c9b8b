"""Archive of the classes that Apache Kafka loads, with which a JVM starts in two thirds of the CPU time.

It is made once for each Java and set of jars, and lies beside the jars. Each JVM of a test finds it by a variable of
the environment. A JVM that it does not fit ignores it.
"""

import asyncio
import hashlib
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from broker.kafka.servers.apache import ApacheKafka, find_java

_OPTIONS = "JDK_JAVA_OPTIONS"


def use_class_archive(jars: Path) -> None:
    """Let each JVM that starts from now on use the archive for these jars; make it if it does not exist."""
    if _OPTIONS in os.environ:
        return
    version = subprocess.run([find_java(), "-version"], capture_output=True, check=True, timeout=60).stderr
    archive = jars.with_name(f"{jars.name}-{hashlib.sha256(version).hexdigest()[:12]}.jsa")
    if not archive.exists():
        _make(archive)
    os.environ[_OPTIONS] = f"-Xshare:auto -XX:SharedArchiveFile={archive} -Xlog:disable"


def _make(archive: Path) -> None:
    """Write the classes that a broker has loaded at its end."""
    with TemporaryDirectory(dir=archive.parent) as folder:
        made = Path(folder) / archive.name
        os.environ[_OPTIONS] = f"-XX:ArchiveClassesAtExit={made}"
        try:
            asyncio.run(_start_and_stop(Path(folder)))
        finally:
            del os.environ[_OPTIONS]
        made.replace(archive)


async def _start_and_stop(folder: Path) -> None:
    async with ApacheKafka(folder) as broker:
        ended = asyncio.ensure_future(broker.ended())
    assert await ended == 143, "it was killed before it had written all classes"
