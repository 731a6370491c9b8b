"""An HTTP load; it prints requests a second.

`python -m bench.throughput.http_load URL SECONDS CONNECTIONS [RATE]` runs it.

Each connection asks again as soon as it is answered: what counts is how many answers the server can give. With a rate
they ask that many a second together, in turns: what counts is what an answer costs when there is time for each.
"""

import asyncio
import sys
import time

import aiohttp

from bench.core.load import small_query


async def run(url: str, seconds: float, connections: int, rate: float = 0.0) -> float:
    """Load the server and return the requests a second.

    Raises:
        RuntimeError: one of them is not answered with 200.
    """
    value, raw_headers = small_query()
    headers = {name: text.decode() for name, text in raw_headers}
    answered = 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections), headers=headers) as http:
        started = time.perf_counter()

        async def ask(number: int) -> None:
            nonlocal answered
            due = number / rate if rate else 0.0
            while (now := time.perf_counter() - started) < seconds:
                if due > now:
                    await asyncio.sleep(due - now)
                due += connections / rate if rate else 0.0
                async with http.post(url, data=value) as response:
                    body = await response.read()
                    if response.status != 200:
                        raise RuntimeError(f"{response.status}: {body[:200].decode(errors='replace')}")
                    answered += 1

        async with asyncio.TaskGroup() as tasks:
            for number in range(connections):
                tasks.create_task(ask(number))
        return answered / (time.perf_counter() - started)


if __name__ == "__main__":
    print(asyncio.run(run(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), *map(float, sys.argv[4:]))))
