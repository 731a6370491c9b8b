"""Model-based test of leases in Postgres: a partition never has two owners, and epochs only grow."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from msgspec.structs import replace

from store import placement
from store.placement import HeartbeatResult
from store.pool import Pool
from tests.example_rows import a_worker, register

Life = tuple[str, int]
"""Name of a worker, and the epoch of its start."""
VARIANT = "mlp.onnx-fp32.cpu"
LONG_S = 600.0
_SLOW = [HealthCheck.too_slow]

names = st.sampled_from(["cpu-0", "cpu-1", "cpu-2"])
numbers = st.sets(st.integers(0, 3), min_size=1)


class Lease:
    """Expected state of one partition."""

    def __init__(self) -> None:
        self.owner: Life | None = None
        self.epoch = 0
        self.asked_by: str | None = None


class Leases(RuleBasedStateMachine):
    """Rules of the model: workers start, acquire, read, request, hand over, release, fall silent and retire."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], pool: Pool) -> None:
        super().__init__()
        self.run, self.pool = run, pool
        run(pool.execute("TRUNCATE leases, workers CASCADE"))
        self.lives: list[Life] = []
        self.present: set[Life] = set()
        self.silent: set[str] = set()
        self.leases = {partition: Lease() for partition in range(4)}

    def owned(self, life: Life) -> set[int]:
        return {partition for partition, lease in self.leases.items() if lease.owner == life}

    def is_held(self, lease: Lease) -> bool:
        return lease.owner in self.present and lease.owner[0] not in self.silent

    @rule(name=names)
    def start(self, name: str) -> None:
        life = name, self.run(placement.register_worker(self.pool, replace(a_worker(name), lease_ttl_s=LONG_S)))
        assert life not in self.lives
        self.present = {other for other in self.present if other[0] != name} | {life}
        self.lives.append(life)
        self.silent.discard(name)

    @rule(data=st.data(), wanted=numbers)
    def acquire(self, data: st.DataObject, wanted: set[int]) -> None:
        name, start = life = self._life(data)
        granted = dict[int, int]()
        for partition in wanted if life in self.present else ():
            lease = self.leases[partition]
            if lease.owner == life or not self.is_held(lease):
                lease.epoch += lease.owner != life
                lease.owner, lease.asked_by = life, None
                granted[partition] = lease.epoch
        leases = self.run(placement.acquire_leases(self.pool, name, start, VARIANT, wanted))
        assert {lease.partition: lease.epoch for lease in leases} == granted

    @rule(data=st.data(), wanted=numbers)
    def ask(self, data: st.DataObject, wanted: set[int]) -> None:
        name, _ = self._life(data)
        self.run(placement.request_leases(self.pool, name, VARIANT, wanted))
        for lease in map(self.leases.__getitem__, wanted):
            if lease.owner is not None and lease.owner[0] != name:
                lease.asked_by = name

    @rule(data=st.data())
    def ask_no_more(self, data: st.DataObject) -> None:
        name, _ = self._life(data)
        self.run(placement.withdraw_lease_requests(self.pool, name, VARIANT))
        for lease in self.leases.values():
            if lease.asked_by == name:
                lease.asked_by = None

    @rule(data=st.data())
    def hand_over(self, data: st.DataObject) -> None:
        """Release the partitions that others request; the next owner is the first to acquire them."""
        life = self._life(data)
        owned = self.owned(life)
        found = self.run(placement.partitions_to_release(self.pool, *life, VARIANT, set(self.leases)))
        due = [one.partition for one in found]
        requested = {one.partition for one in found if one.requested}
        assert requested == {partition for partition in owned if self.leases[partition].asked_by}
        assert requested <= set(due) <= owned
        self.run(placement.release_leases(self.pool, *life, VARIANT, due))
        for partition in due:
            self.leases[partition].owner = None

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        life = self._life(data)
        kept = self.run(placement.worker_leases(self.pool, *life))
        assert {lease.partition for lease in kept} == self.owned(life)

    @rule(data=st.data(), given=numbers)
    def release(self, data: st.DataObject, given: set[int]) -> None:
        life = self._life(data)
        self.run(placement.release_leases(self.pool, *life, VARIANT, given))
        for partition in given & self.owned(life):
            self.leases[partition].owner = None

    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        life = self._life(data)
        assert self.run(placement.retire_worker(self.pool, *life)) == (life in self.present)
        self.present.discard(life)
        for partition in self.owned(life):
            self.leases[partition].owner = None

    @rule(name=names)
    def fall_silent(self, name: str) -> None:
        past = "UPDATE workers SET heartbeat_at = clock_timestamp() - interval '1 hour' WHERE name = $1"
        self.run(self.pool.execute(past, name))
        self.silent.add(name)

    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        life = self._life(data)
        beat = self.run(placement.heartbeat(self.pool, *life))
        if life in self.present:
            assert beat is (HeartbeatResult.LATE if life[0] in self.silent else HeartbeatResult.IN_TIME)
            self.silent.discard(life[0])
        else:
            assert beat is HeartbeatResult.REFUSED

    @invariant()
    def everybody_sees_the_same_owners(self) -> None:
        seen = {lease.partition: (lease.worker, lease.epoch) for lease in self.run(placement.list_leases(self.pool))}
        assert seen == {
            partition: (lease.owner[0], lease.epoch)
            for partition, lease in self.leases.items()
            if lease.owner is not None and self.is_held(lease)
        }

    def _life(self, data: st.DataObject) -> Life:
        """Return a worker's present or past life, or one that never existed."""
        return data.draw(st.sampled_from(self.lives)) if self.lives else ("cpu-9", 1)


async def test_leases_have_one_owner_in_any_order_of_calls(store_pool: Pool) -> None:
    await register(store_pool, VARIANT)
    loop = asyncio.get_running_loop()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    class Here(Leases):
        def __init__(self) -> None:
            super().__init__(run, store_pool)

    limits = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=_SLOW)
    await asyncio.to_thread(run_state_machine_as_test, Here, settings=limits)
