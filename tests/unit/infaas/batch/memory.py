"""Source, sink and model in memory."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

import numpy as np

from infaas.batch.rows import Chunk, ChunkResult, InputRows, SourcePosition
from infaas.batch.sink import BatchTerms, Progress
from infaas.client.client import Answer
from schemas.errors import ModelFailed
from schemas.tensors import Array

TERMS = BatchTerms(source="numbers", task="squares", needs={}, chunk_rows=4)


class Numbers:
    """Source of the numbers from 0 on."""

    name = "numbers"

    def __init__(self, total: int) -> None:
        self.total = total
        self.read = 0

    def fingerprint(self) -> str:
        return f"numbers:{self.total}"

    async def chunks(self, begin: SourcePosition | None, size: int) -> AsyncGenerator[Chunk]:
        start = 0 if begin is None else int(begin["row"])
        for first in range(start, self.total, size):
            numbers = np.arange(first, min(first + size, self.total), dtype=np.int64)
            self.read = int(numbers[-1]) + 1
            yield Chunk((InputRows(numbers, {"x": numbers.astype(np.float32)}),), {"row": self.read})
            await asyncio.sleep(0)


class Written:
    """Sink that keeps only committed results, like a file whose process was killed."""

    def __init__(self) -> None:
        self.committed: list[tuple[int, float]] = []
        self.failed: list[int] = []
        self.progress: Progress | None = None
        self.finished = False
        self._since: list[ChunkResult] = []

    async def open(self, terms: BatchTerms) -> Progress | None:
        self._since = []
        return self.progress

    async def write(self, result: ChunkResult) -> None:
        self._since.append(result)

    async def commit(self, progress: Progress) -> None:
        for result in self._since:
            self.committed += [(row.number, float(row.outputs["y"])) for row in result.in_order()]
            self.failed += [row.number for row in result.failed]
        self._since, self.progress = [], progress

    async def finish(self, progress: Progress) -> None:
        await self.commit(progress)
        self.finished = True

    async def close(self) -> None:
        pass


class Squares:
    """Model that squares inputs, and fails on inputs in `poison`. Answers arrive out of order."""

    def __init__(self, poison: tuple[int, ...] = (), cost: float = 0.0) -> None:
        self.poison = poison
        self.cost = cost
        self.asked: list[list[int]] = []
        self.at_once = self.most_at_once = 0

    async def ask(self, inputs: Mapping[str, Array]) -> Answer:
        values: list[int] = inputs["x"].astype(int).tolist()
        self.asked.append(values)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        for _ in range(20 - values[0] % 20):
            await asyncio.sleep(0)
        self.at_once -= 1
        if set(values) & set(self.poison):
            raise ModelFailed("cannot square this")
        return answer({"y": inputs["x"] ** 2}, self.cost * len(values) * 1000)


def answer(outputs: dict[str, Array], cost: float = 0.0) -> Answer:
    return Answer(
        outputs=outputs, id="1", variant="squares.cpu", worker="w", accuracy=1.0, cost=cost, predicted_ms=0, queue_ms=0,
        compute_ms=0, total_ms=0,
    )  # fmt: skip
