"""Ray cluster of several nodes on this machine: real raylets, started with Ray's own cluster utilities.

They are children of a separate process (`python -m bench.scale.ray_nodes NODES CORES`), because Ray changes the process
that starts it. All of it ends with this process. The head has no cores, so that any other node can be killed.
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

from process.parent_death import die_with_parent

_UP_S: Final = 60.0
_DOWN_S: Final = 30.0
_STORE_BYTES: Final = 80_000_000
_NODE_BYTES: Final = 64 * 2**30
"""Declared memory of a node; the workers of all nodes share this machine's memory."""
_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A node whose connection is refused counts as dead after 4 s instead of some 13 by default; a slow one after 20 s.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "20000",
    "RAY_health_check_failure_threshold": "3",
}


class RayNodes(msgspec.Struct, frozen=True):
    """Running Ray cluster."""

    address: str
    raylets: list[int]
    """Process ids of the raylets, one per node without the head."""
    folder: str
    """Folder of Ray's logs and sockets."""

    def workers(self) -> dict[str, int]:
        """Return the live INFaaS workers by name, each with the index of its node."""
        return {
            name: index
            for index, raylet in enumerate(self.raylets)
            for process in _descendants(raylet)
            if (name := _worker_name(process))
        }

    def kill(self, node: int) -> None:
        """Let a node lose power: all its processes die at once."""
        psutil.Process(self.raylets[node]).suspend()  # or it restarts the processes killed first
        for process in [*_descendants(self.raylets[node]), psutil.Process(self.raylets[node])]:
            process.kill()


def _worker_name(process: psutil.Process) -> str:
    """Return the name of the INFaaS worker in a process; empty if it is none, or has ended."""
    try:
        return process.environ()["INFAAS_WORKERS_NAME"] if process.cmdline()[1:] == ["-m", "workers"] else ""
    except psutil.NoSuchProcess:  # raised for zombies as well
        return ""


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@asynccontextmanager
async def ray_nodes(nodes: int, cores: int) -> AsyncGenerator[RayNodes]:
    """Run a head and `nodes` nodes of `cores` cores each while the context is open."""
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
            await process.communicate(b"")  # ends its input


def main(nodes: int, cores: int) -> None:
    """Run the cluster until the input ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Ray writes to standard output
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
        # Ray's own shutdown waits for nodes that were killed.
        for process in _descendants(os.getpid()):
            process.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
