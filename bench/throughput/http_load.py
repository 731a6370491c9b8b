"""Load over HTTP; prints requests per second, and the p50 and p99 of their latencies in milliseconds.

`python -m bench.throughput.http_load URL SECONDS CONNECTIONS [RATE]` runs it.

Without a rate, each connection sends its next request as soon as it gets an answer, which measures the capacity of the
server. With a rate, the connections together send that many per second, which measures the cost of an answer without
queueing. Over HTTPS it trusts the CA in INFAAS_GATEWAY_CA.
"""

import asyncio
import os
import sys
import time

import aiohttp
import msgspec

from bench.core.figures import percentile
from bench.core.load import small_query
from infaas.client import ClientTls

KEY_ENV = "INFAAS_KEY"
"""Environment variable with the API key to send, if there is one."""


class MeasuredLoad(msgspec.Struct, frozen=True):
    """Result of a load."""

    per_second: float
    p50_ms: float
    p99_ms: float


async def run(url: str, seconds: float, connections: int, rate: float = 0.0) -> MeasuredLoad:
    """Load the server. Returns the result.

    Raises:
        RuntimeError: an answer has another status than 200.
    """
    value, raw_headers = small_query()
    headers = {name: text.decode() for name, text in raw_headers}
    if key := os.environ.get(KEY_ENV):
        headers["Authorization"] = f"Bearer {key}"
    times_ms: list[float] = []
    connector = aiohttp.TCPConnector(limit=connections, ssl=ClientTls().context() if url.startswith("https:") else True)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
        started = time.perf_counter()

        async def ask(number: int) -> None:
            due = number / rate if rate else 0.0
            while (now := time.perf_counter() - started) < seconds:
                if due > now:
                    await asyncio.sleep(due - now)
                due += connections / rate if rate else 0.0
                asked = time.perf_counter()
                async with http.post(url, data=value) as response:
                    body = await response.read()
                    if response.status != 200:
                        raise RuntimeError(f"{response.status}: {body[:200].decode(errors='replace')}")
                    times_ms.append((time.perf_counter() - asked) * 1e3)

        async with asyncio.TaskGroup() as tasks:
            for number in range(connections):
                tasks.create_task(ask(number))
        elapsed_s = time.perf_counter() - started
    return MeasuredLoad(len(times_ms) / elapsed_s, percentile(times_ms, 0.5), percentile(times_ms, 0.99))


if __name__ == "__main__":
    measured = asyncio.run(run(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), *map(float, sys.argv[4:])))
    print(msgspec.json.encode(measured).decode())
