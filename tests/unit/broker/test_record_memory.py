"""Tests of `RecordMemory`: consumers hold at most the limit and one record each, and none waits for ever."""

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker.fetch.record_batches import Damage
from broker.record_memory import MemoryShare, RecordMemory, record_bytes
from tests.unit.broker.test_record_batches import batch_of, read

LARGEST = 50


class Model(RuleBasedStateMachine):
    """Shares that take as much as they may, and give it back in any order."""

    @initialize(limit=st.integers(1, 400))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.memory = RecordMemory(limit)
        self.held: dict[MemoryShare, list[int]] = {}
        self.waiting: set[MemoryShare] = set()

    @rule()
    def open_share(self) -> None:
        if len(self.held) < 6:
            share = self.memory.open_share(lambda: self.waiting.discard(share))
            self.held[share] = []

    @rule(data=st.data())
    def close_share(self, data: st.DataObject) -> None:
        if self.held:
            share = data.draw(st.sampled_from([*self.held]))
            self.memory.close_share(share)
            del self.held[share]
            self.waiting.discard(share)

    @rule(data=st.data(), sizes=st.lists(st.integers(1, LARGEST), min_size=1, max_size=9))
    def take(self, data: st.DataObject, sizes: list[int]) -> None:
        for share in [data.draw(st.sampled_from([*self.held]))] if self.held else []:
            room = share.room
            if not room:
                self.waiting.add(share)
            for size in sizes:
                if room <= 0:
                    break
                assert sum(map(sum, self.held.values())) < self.bound
                share.take(size)
                self.held[share].append(size)
                room -= size

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        if holders := [share for share, sizes in self.held.items() if sizes]:
            share = data.draw(st.sampled_from(holders))
            sizes = self.held[share]
            share.give(sizes.pop(data.draw(st.integers(0, len(sizes) - 1))))

    @property
    def bound(self) -> float:
        return 1.25 * self.limit + 6 * LARGEST  # a share that was alone may hold the divided half when others open

    @invariant()
    def what_is_held_is_counted(self) -> None:
        assert self.memory.used == sum(map(sum, self.held.values()))
        assert all(share.used == sum(sizes) for share, sizes in self.held.items())

    @invariant()
    def nobody_waits_who_holds_nothing(self) -> None:
        assert not [share for share in self.waiting if not self.held[share]]
        assert all(share.room for share, sizes in self.held.items() if not sizes)


TestRecordMemory = Model.TestCase


def shares(memory: RecordMemory, count: int) -> list[MemoryShare]:
    return [memory.open_share(lambda: None) for _ in range(count)]


def test_record_memory_reserves_a_part_for_each_share() -> None:
    memory = RecordMemory(1000)
    greedy, *others = shares(memory, 5)
    while room := greedy.room:
        greedy.take(min(room, 10))
    assert greedy.used == 600
    for other in others:
        while room := other.room:
            other.take(min(room, 10))
        assert other.used == 100
    assert memory.used == 1000


def test_record_memory_admits_record_larger_than_limit() -> None:
    (share,) = shares(RecordMemory(10), 1)
    assert share.room
    share.take(1000)
    assert not share.room
    share.give(1000)
    assert share.room


def test_record_memory_notifies_waiting_share() -> None:
    memory, told = RecordMemory(1000), list[int]()
    first, second = memory.open_share(lambda: told.append(1)), memory.open_share(lambda: told.append(2))
    first.take(450)
    second.take(300)
    assert not second.room
    first.give(150)
    assert told == []
    first.give(50)
    assert told == [2]
    assert second.room


def test_record_bytes_include_headers() -> None:
    small, large = (one for one in read(batch_of([b"", b"v" * 90])) if not isinstance(one, Damage))
    assert record_bytes(large) - record_bytes(small) == 90
    headers = len("name") + len("text") + len("none")
    assert record_bytes(small) - record_bytes(replace(small, headers=())) == headers
