"""Asks a task for every row that a program has, offline, in bounded memory, and gets the answers in the same order.

    INFAAS_KAFKA=127.0.0.1:9092 python examples/batch_rows.py

The rows may be a list, a generator, a cursor of a database, an async iterator: they are read no faster than answers are
taken, and several go in one query. A row that cannot be answered has an error, and costs no other anything. For files
there is `infaas batch`, which goes on where it was killed.
"""

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from infaas.batch import infer_rows
from infaas.client import InfaasClient

KAFKA = os.environ.get("INFAAS_KAFKA", "127.0.0.1:9092")
ROWS = 1000


def images() -> Iterator[dict[str, Any]]:
    """Rows, each with its inputs by their names; here, noise for the task `digits`."""
    noise = np.random.default_rng(0)
    for _ in range(ROWS):
        yield {"input": noise.random((1, 8, 8), np.float32)}


async def main() -> None:
    """Count which digits the noise is taken for."""
    found, failed = np.zeros(10, int), 0
    async with InfaasClient(kafka=KAFKA) as client:
        async for row in infer_rows(client, "digits", images(), min_accuracy=0.8):
            if row.error is not None:
                failed += 1
                print(f"row {row.number}: {row.error}")
            else:
                found[row.outputs["logits"].argmax()] += 1
    print(f"{found.sum() + failed} rows, {failed} failed: {dict(enumerate(found.tolist()))}")


if __name__ == "__main__":
    asyncio.run(main())
