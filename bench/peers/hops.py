"""CPU a query, over that of three bare hops by Kafka at the same rate and on the same broker.

Ours is all of its processes and the broker; the bare program is its client, two forwarding processes and the broker.
"""

import os
from typing import Final

import psutil

from bench.core.figures import Figure, at_most
from bench.core.system import SystemUnderTest
from bench.idle import cpu_seconds
from bench.latency.end_to_end import bare_hops
from bench.peers import ours
from bench.load_client.http_load import HttpLoad, LoadShape
from bench.peers.contest import Toolbox
from bench.peers.kafka_load import KafkaLoad
from bench.peers.workloads import Workload

_RATE: Final = 900.0
_LIMIT: Final = 0.6
_BARE: Final = ("bench.core.baseline", "java")
_SHAPE: Final = LoadShape(seconds=5.0, connections=16, rate=_RATE)
_WARM_UP: Final = LoadShape(seconds=2.0, connections=16, rate=_RATE)


async def measure_hops(system: SystemUnderTest, workload: Workload, tools: Toolbox) -> Figure:
    """Measure both in turn; the system must be up, with the workload's variant loaded."""
    tools.say(f"CPU a query at {_RATE:g}/s", "ours")
    by_http = HttpLoad(tools.client, ours.port_of(system), ours.pinned_requests(workload))
    await by_http.run(_WARM_UP)
    before = cpu_seconds(psutil.Process(system.pid))
    report = await by_http.run(_SHAPE)
    after = cpu_seconds(psutil.Process(system.pid))
    ours_ms = 1e3 * (sum(after.values()) - sum(before.values())) / max(report.answered, 1)
    tools.say(f"CPU a query at {_RATE:g}/s", "three bare hops")
    name = f"CPU a query, {workload.name} by HTTP, pinned, {_RATE:g}/s, with the broker's"
    return at_most(name, "apache", ours_ms, "ms", await _bare_ms(system, workload), _LIMIT)


async def _bare_ms(system: SystemUnderTest, workload: Workload) -> float:
    async with bare_hops(system.kafka) as entry:
        load = KafkaLoad(system.kafka, entry, ours.kafka_queries(workload))
        await load.run(_WARM_UP)
        bench = psutil.Process(os.getpid())
        before = cpu_seconds(bench)
        report = await load.run(_SHAPE)
        after = cpu_seconds(bench)
    taken_s = sum(after[kind] - before[kind] for kind in _BARE) + report.cpu_s
    return 1e3 * taken_s / max(report.answered, 1)
