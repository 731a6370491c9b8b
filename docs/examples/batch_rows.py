"""Queries a task for many rows of a program, offline, with bounded memory and answers in order.

    INFAAS_KAFKA=127.0.0.1:9092 python docs/examples/batch_rows.py

The rows may be a list, a generator, a database cursor or an async iterator. They are read no faster than the answers
are consumed, and several rows share a query. A row that cannot be answered has an error and does not affect other rows.
For files use `infaas batch`, which resumes after a crash.
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
    """Yield rows, each with its inputs by name; here, noise for the task `digits`."""
    noise = np.random.default_rng(0)
    for _ in range(ROWS):
        yield {"input": noise.random((1, 8, 8), np.float32)}


async def main() -> None:
    """Count the digits that the model recognises in the noise."""
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
