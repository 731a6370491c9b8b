"""Test of leases after a process has slept longer than they last: they are renewed before they are trusted."""

import asyncio

from store import placement
from store.pool import Pool
from tests.example_rows import a_worker, register
from tests.waiting import until
from workers.lease import Leases

VARIANT = "mlp.onnx-fp32.cpu"
TTL_S = 0.05


async def test_leases_report_loss_before_they_are_current(store_pool: Pool) -> None:
    await register(store_pool, VARIANT)
    epoch = await placement.register_worker(store_pool, a_worker("sleeps"))
    successor = await placement.register_worker(store_pool, a_worker("successor"))
    heard: list[tuple[str, set[int], bool]] = []

    def on_lost(variant: str, partitions: set[int]) -> None:
        heard.append((variant, partitions, leases.are_current()))

    leases = Leases(store_pool, "sleeps", epoch, TTL_S, on_lost)
    assert await leases.acquire(VARIANT, [0, 1]) == {0, 1}
    await until(lambda: placement.acquire_leases(store_pool, "successor", successor, VARIANT, [0], 60))
    assert not leases.are_current()
    renewing = asyncio.ensure_future(leases.keep_renewing(0.0))
    await until(lambda: heard and leases.are_current())  # a renewal without a loss notifies nobody
    renewing.cancel()
    assert heard == [(VARIANT, {0}, False)]
