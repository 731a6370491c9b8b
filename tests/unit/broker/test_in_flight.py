"""Tests of records in flight against simple models: `Watermark`, `RecordMemory` and `InFlightTracker`.

No watermark passes an unfinished record, and no record counts twice: records are handed out and finished in any order,
partitions are taken away, or their logs are recreated, and commits succeed, fail, or are overwritten by another member.
Consumers hold at most the limit and one record each, and none waits for ever.
"""

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from broker.delivery.in_flight import InFlightTracker, MemoryShare, RecordMemory, Watermark
from broker.fetch.record_batches import Damage
from broker.kafka.types import Record, record_bytes
from tests.unit.broker.test_record_batches import batch_of, read


class Model(RuleBasedStateMachine):
    """Records that are handed out with gaps, and finished in any order, twice, or without having been handed out."""

    @initialize(start=st.integers(0, 1000))
    def begin(self, start: int) -> None:
        self.mark = Watermark(start)
        self.out: set[int] = set()
        self.given_back: set[int] = set()
        self.after = start

    @rule(gaps=st.lists(st.integers(0, 3), min_size=1, max_size=8))
    def hand_out(self, gaps: list[int]) -> None:
        offsets: list[int] = []
        for gap in gaps:
            offsets.append(self.after + gap)
            self.after = offsets[-1] + 1
        self.mark.hand_out({offset: offset % 7 for offset in offsets})
        self.out.update(offsets)

    @rule(gap=st.integers(-3, 3))
    def pass_to(self, gap: int) -> None:
        assert self.mark.pass_to(self.after + gap) == (gap > 0)
        self.after += max(gap, 0)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.out)) if self.out else st.integers(0, 2000))
        assert self.mark.finish(offset) == (offset in self.out)
        self.out.discard(offset)
        assert not self.mark.finish(offset)

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.out)) if self.out else st.integers(0, 2000))
        assert self.mark.give_back(offset) == (offset in self.out)
        self.given_back |= self.out & {offset}
        self.out.discard(offset)

    @rule(offset=st.integers(0, 5000))
    def finish_any(self, offset: int) -> None:
        assert self.mark.finish(offset) == (offset in self.out)
        self.out.discard(offset)

    @invariant()
    def mark_is_the_lowest_open_offset(self) -> None:
        assert self.mark.mark == min(self.out | self.given_back, default=self.after)
        assert self.mark.in_flight == len(self.out)
        assert self.mark.bytes == sum(offset % 7 for offset in self.out)
        assert self.mark.next == self.after


TestWatermark = Model.TestCase


@given(order=st.permutations(range(50)))
def test_watermark_never_decreases(order: list[int]) -> None:
    mark = Watermark(0)
    mark.hand_out(dict.fromkeys(range(50), 1))
    seen: list[int] = []
    for offset in order:
        mark.finish(offset)
        seen.append(mark.mark)
    assert seen == sorted(seen)
    assert seen[-1] == 50


def test_watermark_refuses_offset_handed_out_twice() -> None:
    mark = Watermark(5)
    mark.hand_out({5: 1, 6: 1})
    with pytest.raises(ValueError, match="6 was handed out before"):
        mark.hand_out({6: 1})


LARGEST = 50


class MemoryModel(RuleBasedStateMachine):
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


TestRecordMemory = MemoryModel.TestCase


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


LIMIT = 20
KEYS = [TopicPartition("t", 0), TopicPartition("t", 1), TopicPartition("u", 0)]


def record(key: TopicPartition, offset: int) -> Record:
    return Record(key.topic, key.partition, offset, 0, 0, None, b"", ())


class TrackerModel(RuleBasedStateMachine):
    """Offsets handed out, next offset and committed offset of each partition."""

    @initialize()
    def begin(self) -> None:
        self.memory = RecordMemory(1 << 30)
        self.tracker = InFlightTracker(LIMIT, self.memory)
        self.out: dict[TopicPartition, set[int]] = {}
        self.sizes: dict[tuple[TopicPartition, int], int] = {}
        self.next: dict[TopicPartition, int] = {}
        self.start: dict[TopicPartition, int] = {}
        self.group: dict[TopicPartition, int] = {}
        self.finished: dict[TopicPartition, set[int]] = {}
        self.full = False

    def count(self) -> int:
        return sum(len(out) for out in self.out.values())

    @rule(key=st.sampled_from(KEYS), start=st.integers(0, 50))
    def take_over(self, key: TopicPartition, start: int) -> None:
        if key not in self.next:
            self.tracker.track(key, start)
            self._know(key, start)

    def _know(self, key: TopicPartition, start: int) -> None:
        self.out[key], self.finished[key] = set(), set()
        self.next[key] = self.start[key] = self.group[key] = start

    @rule(key=st.sampled_from(KEYS), gaps=st.lists(st.integers(0, 3), min_size=1, max_size=6))
    def hand_out(self, key: TopicPartition, gaps: list[int]) -> None:
        if self.full:
            return
        if key not in self.next:
            self._know(key, gaps[0])
            gaps = [0, *gaps[1:]]
        offsets: list[int] = []
        for gap in gaps[: LIMIT - self.count()]:
            offsets.append(self.next[key] + gap)
            self.next[key] = offsets[-1] + 1
        self.tracker.hand_out(key, {offset: offset % 7 for offset in offsets})
        self.sizes |= {(key, offset): offset % 7 for offset in offsets}
        self.out[key].update(offsets)
        self.full = self.count() >= LIMIT

    @precondition(lambda self: any(self.out.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from([key for key, out in self.out.items() if out]))
        offsets = data.draw(st.lists(st.sampled_from(sorted(self.out[key])), min_size=1, max_size=4))
        for _ in range(data.draw(st.integers(1, 2))):
            self.tracker.done(*[record(key, offset) for offset in offsets])
        self.out[key].difference_update(offsets)
        self.finished[key].update(offsets)
        self._made_room()

    def _made_room(self) -> None:
        if self.count() <= LIMIT * 3 // 4:
            self.full = False

    @rule(key=st.sampled_from(KEYS), offset=st.integers(0, 80), size=st.integers(0, 20))
    def hold(self, key: TopicPartition, offset: int, size: int) -> None:
        self.tracker.hold(record(key, offset), size)
        if offset in self.out.get(key, set()):
            self.sizes[key, offset] = max(self.sizes[key, offset], size)

    @rule(key=st.sampled_from(KEYS), offset=st.integers(0, 80))
    def finish_what_was_never_out(self, key: TopicPartition, offset: int) -> None:
        if offset not in self.out.get(key, set()):
            self.tracker.done(record(key, offset))

    @rule(key=st.sampled_from(KEYS))
    def forget(self, key: TopicPartition) -> None:
        self.tracker.forget(key)
        for known in (self.out, self.next, self.start, self.group, self.finished):
            known.pop(key, None)
        self._made_room()

    @rule(key=st.sampled_from(KEYS))
    def cut(self, key: TopicPartition) -> None:
        """Recreate the log: the next record has an offset that was handed out before."""
        if self.next.get(key, 0) > 0 and not self.full:
            self.out[key] = set()
            self._know(key, 0)
            self.group[key] = -1  # the committed offset may lie beyond the end of the log
            self._made_room()
            self.tracker.hand_out(key, {0: 0})
            self.sizes[key, 0] = 0
            self.out[key], self.next[key] = {0}, 1
            self.full = self.count() >= LIMIT

    @rule(arrives=st.booleans(), more=st.data())
    def commit(self, arrives: bool, more: st.DataObject) -> None:
        moved = self.tracker.to_commit()
        if any(self.out.values()) and more.draw(st.booleans()):  # a record finishes while the commit is in progress
            self.finish(more)
        if arrives:
            for key, offset in moved.items():
                assert offset > self.group[key], "only what moved is committed"
                assert not [unfinished for unfinished in self.out[key] if unfinished < offset]
                self.group[key] = offset
            self.tracker.committed(moved)
        else:
            self.tracker.not_committed()
            assert self.tracker.changed.is_set()

    @precondition(lambda self: any(self.group[key] > self.start[key] for key in self.group))
    @rule(data=st.data())
    def another_commits(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from([key for key in self.group if self.group[key] > self.start[key]]))
        self.group[key] = data.draw(st.integers(self.start[key], self.group[key] - 1))
        self.tracker.rewound({key: self.group[key]})
        assert self.tracker.to_commit()[key] > self.group[key]

    @invariant()
    def bytes_are_those_of_what_is_out(self) -> None:
        assert self.memory.used == sum(self.sizes[key, offset] for key, out in self.out.items() for offset in out)

    @invariant()
    def the_tracker_knows_what_is_out(self) -> None:
        if not hasattr(self, "tracker"):
            return
        assert self.tracker.in_flight == self.count()
        assert set(self.tracker.last_committed()) == set(self.next)
        for key, position in self.next.items():
            assert self.tracker.position(key) == position
        for key, offset in self.tracker.to_commit().items():
            assert offset == min(self.out[key], default=self.next[key])
        self.tracker.not_committed()

    @invariant()
    def it_is_full_until_a_quarter_is_done(self) -> None:
        if hasattr(self, "tracker"):
            assert self.tracker.room == (0 if self.full else LIMIT - self.count())


TestInFlight = TrackerModel.TestCase
