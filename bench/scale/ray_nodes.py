"""A Ray cluster of several nodes on this machine: real raylets, started with Ray's own cluster utilities.

They are the children of a process of their own (`python -m bench.scale.ray_nodes NODES CORES`), since Ray changes the
process that starts it. Nothing of it outlives us. The head has no cores, so that any other node can be killed.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import psutil

from process.subprocesses import die_with_parent

_UP_S: Final = 60.0
_DOWN_S: Final = 30.0
_STORE_BYTES: Final = 80_000_000
_NODE_BYTES: Final = 64 * 2**30
"""Memory that a node says it has: the workers of all of them share this machine's."""
_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A node whose connection is refused is dead after 4 s, by default after some 13; one that is only busy has 20 s.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "20000",
    "RAY_health_check_failure_threshold": "3",
}


class RayNodes(msgspec.Struct, frozen=True):
    """A running Ray cluster."""

    address: str
    raylets: list[int]
    """Process ids of the raylets, one a node; the head is not among them."""
    folder: str
    """Where Ray keeps its logs and sockets."""

    def workers(self) -> dict[str, int]:
        """Return the INFaaS workers whose processes live, each with the index of its node."""
        return {
            name: index
            for index, raylet in enumerate(self.raylets)
            for process in _descendants(raylet)
            if (name := _worker_name(process))
        }

    def kill(self, node: int) -> None:
        """Have a node lose power: all its processes die at once."""
        psutil.Process(self.raylets[node]).suspend()  # or it starts anew what dies first
        for process in [*_descendants(self.raylets[node]), psutil.Process(self.raylets[node])]:
            process.kill()


def _worker_name(process: psutil.Process) -> str:
    """Name of the INFaaS worker that a process is; empty if it is none, or has ended."""
    try:
        return process.environ()["INFAAS_WORKERS_NAME"] if process.cmdline()[1:] == ["-m", "workers"] else ""
    except psutil.NoSuchProcess:  # also of what has ended and is not yet waited for
        return ""


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@asynccontextmanager
async def ray_nodes(nodes: int, cores: int) -> AsyncGenerator[RayNodes]:
    """Run a head and so many nodes of so many cores each while the context is open."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.scale.ray_nodes", str(nodes), str(cores)),
        env={**os.environ, **_ENVIRONMENT},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent(signal.SIGKILL),
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(_UP_S):
            line = await process.stdout.readline()
        yield msgspec.json.decode(line, type=RayNodes)
    finally:
        async with asyncio.timeout(_DOWN_S):
            await process.communicate(b"")  # its input ends


def main(nodes: int, cores: int) -> None:
    """Be the cluster until the input ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Ray prints there what it likes
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        os.environ["RAY_TMPDIR"] = folder
        from ray.cluster_utils import Cluster

        common: dict[str, Any] = {"object_store_memory": _STORE_BYTES, "memory": _NODE_BYTES}
        cluster = Cluster()
        cluster.add_node(num_cpus=0, include_dashboard=False, **common)
        started = [cluster.add_node(num_cpus=cores, **common) for _ in range(nodes)]
        raylets = [node.all_processes["raylet"][0].process.pid for node in started]
        out.write(msgspec.json.encode(RayNodes(str(cluster.address), raylets, folder)) + b"\n")
        out.flush()
        sys.stdin.read()
        # Its own shutdown waits for nodes that were killed.
        for process in _descendants(os.getpid()):
            process.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
