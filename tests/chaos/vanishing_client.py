"""Client program with hundreds of queries in flight, meant to be killed.

`python -m tests.chaos.vanishing_client KAFKA` runs it.
"""

import asyncio
import itertools
import sys

from infaas.client import InfaasClient
from zoo.samples import labelled

_AT_ONCE = 300


async def ask_for_ever(kafka: str) -> None:
    """Keep `_AT_ONCE` queries in flight until killed."""
    inputs, _labels = labelled("digits")
    one = {name: array[:1] for name, array in inputs.items()}

    async with InfaasClient(kafka=kafka) as client:
        async for _answer in client.infer_many("digits", itertools.repeat(one), in_flight=_AT_ONCE):
            pass


if __name__ == "__main__":
    asyncio.run(ask_for_ever(sys.argv[1]))
