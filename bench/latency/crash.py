"""SIGKILL of a worker and of the selector under load: lost queries, repeated results, and time without answers.

20,000 queries are sent to Kafka at a steady rate. After a third of them the worker is killed, after two thirds the
selector; the supervisor restarts each. Every id must be answered, and shown once by the client library. Results that
arrive twice, because the first was sent and its query not yet committed, are counted where the client drops them.
"""

import asyncio
import os
import signal
import time
from collections import Counter

from bench.core.figures import Figure, exactly, plain
from bench.core.system import SystemUnderTest
from bench.load.pace import pace, repeated_results, silence_s
from infaas.client import InfaasClient
from schemas.errors import QueryError
from zoo.samples import labelled

QUERIES = 20_000
RATE = 500.0
_LAST_ANSWERS_S = 60.0
_NEAR_S = 12.0
"""Seconds after a kill that are attributed to it: less than the 13 between the two kills."""


async def measure(system: SystemUnderTest, broker: str) -> list[Figure]:
    """Measure one run; the system must be up, with the task `digits` placed."""
    inputs, _labels = labelled("digits")
    one = {name: array[:1] for name, array in inputs.items()}
    answered_at: list[float] = []
    shown: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    killed_at: dict[str, float] = {}
    dropped_before = repeated_results()
    victims = {QUERIES * share // 3: (who, await system.pid_of(who)) for share, who in ((1, "worker"), (2, "selector"))}

    async with InfaasClient(kafka=system.kafka.bootstrap) as client:

        async def ask(query_id: str) -> None:
            try:
                await client.infer("digits", one, query_id=query_id, timeout_s=_LAST_ANSWERS_S)
            except QueryError as error:
                refused[error.code] += 1
            shown[query_id] += 1
            answered_at.append(time.monotonic())

        run = f"crash-{time.time_ns()}"
        async with asyncio.timeout(QUERIES / RATE + 2 * _LAST_ANSWERS_S), asyncio.TaskGroup() as queries:
            async for number in pace(RATE, QUERIES):
                queries.create_task(ask(f"{run}-{number}"), name=f"query {number}")
                if number in victims:
                    who, pid = victims[number]
                    os.kill(pid, signal.SIGKILL)
                    killed_at[who] = time.monotonic()
    lost = QUERIES - len(shown) + refused.total()
    doubled = shown.total() - len(shown)
    dropped = repeated_results() - dropped_before

    return [
        exactly("queries lost or refused, 2 SIGKILLs", broker, lost),
        exactly("answers shown twice", broker, doubled),
        plain("second results dropped by the client", broker, dropped),
        *(
            plain(f"no answers after SIGKILL of the {who}", broker, silence_s(answered_at, at, _NEAR_S), "s")
            for who, at in killed_at.items()
        ),
    ]
