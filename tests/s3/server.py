"""Real S3 server on this machine: s3proxy, fetched by Maven and cached, with its objects in a folder."""

import hashlib
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from broker.kafka.servers.apache import find_java
from broker.kafka.servers.jars import cache_dir
from process.sockets import free_port
from schemas.errors import OperatorError

KEY, SECRET, BUCKET = "infaas-tests", "a-secret-of-tests", "models"
_POM = Path(__file__).with_name("pom.xml")
_LOCK = _POM.with_name("jars.lock")
"""SHA-256 and name of each jar of the pom, in the format of `sha256sum *.jar`."""
_READY_S = 60.0


class S3Server(NamedTuple):
    endpoint: str
    objects: Path
    """Folder with the bucket's objects, by key."""


@contextmanager
def s3_server(folder: Path) -> Generator[S3Server]:
    """Run the server with one bucket while the context is open."""
    port, buckets = free_port(), folder / "buckets"
    (buckets / BUCKET).mkdir(parents=True)
    endpoint = f"http://127.0.0.1:{port}"
    properties = folder / "s3proxy.properties"
    properties.write_text(
        f"s3proxy.endpoint={endpoint}\ns3proxy.authorization=aws-v2-or-v4\ns3proxy.identity={KEY}\n"
        f"s3proxy.credential={SECRET}\njclouds.provider=filesystem-nio2\njclouds.filesystem.basedir={buckets}\n"
        "jclouds.identity=none\njclouds.credential=none\n"
    )
    command = [find_java(), "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{_jars()}/*"]
    log = folder / "s3proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "org.gaul.s3proxy.Main", "--properties", properties], stdout=output, stderr=output
        )
    try:
        _wait(process, endpoint, log)
        yield S3Server(endpoint, buckets / BUCKET)
    finally:
        process.kill()
        process.wait()


def _jars() -> Path:
    folder = cache_dir() / f"s3proxy-{hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise OperatorError("the S3 server of the tests needs Maven: apt-get install maven")
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir(), ignore_cleanup_errors=True) as partial:
        jars = Path(partial) / "jars"
        fetch = [maven, "-q", "-B", "-f", _POM, "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        subprocess.run(fetch, check=True, timeout=240, stdout=subprocess.DEVNULL)
        _check(jars)
        try:
            jars.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster
                raise
    return folder


def _check(jars: Path) -> None:
    """Raise an error unless the jars are exactly those of the lock file."""
    locked = [tuple(line.split()) for line in _LOCK.read_text().splitlines()]
    found = [(hashlib.sha256(jar.read_bytes()).hexdigest(), jar.name) for jar in jars.iterdir()]
    odd = sorted(name for _sha256, name in set(locked) ^ set(found))
    if odd:
        raise OperatorError(f"Maven brings other jars of the S3 server than {_LOCK.name} names: {', '.join(odd[:5])}")


def _wait(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    ends = time.monotonic() + _READY_S
    while time.monotonic() < ends and process.poll() is None:
        try:
            urllib.request.urlopen(endpoint, timeout=1).close()
        except urllib.error.HTTPError:
            return  # it answers, and refuses requests without credentials
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise OperatorError(f"the S3 server does not answer: {log.read_text()[-2000:]}")
