"""Tests of `InFlightTracker` against a model: no watermark passes an unfinished record, and no record counts twice.

Records are handed out and finished in any order. Partitions are taken away, or their logs are recreated. Commits
succeed, fail, or are overwritten by another member.
"""

from aiokafka import ConsumerRecord, TopicPartition
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.delivery.in_flight import InFlightTracker
from broker.record_memory import RecordMemory

LIMIT = 20
KEYS = [TopicPartition("t", 0), TopicPartition("t", 1), TopicPartition("u", 0)]


def record(key: TopicPartition, offset: int) -> ConsumerRecord[bytes | None, bytes | None]:
    return ConsumerRecord(key.topic, key.partition, offset, 0, 0, None, b"", None, -1, 0, ())


class Model(RuleBasedStateMachine):
    """Offsets handed out, next offset and committed offset of each partition."""

    @initialize()
    def begin(self) -> None:
        self.memory = RecordMemory(1 << 30)
        self.tracker = InFlightTracker(LIMIT, self.memory)
        self.out: dict[TopicPartition, set[int]] = {}
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
        self.out[key].update(offsets)
        self.full = self.count() >= LIMIT

    @precondition(lambda self: any(self.out.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from([key for key, out in self.out.items() if out]))
        offset = data.draw(st.sampled_from(sorted(self.out[key])))
        for _ in range(data.draw(st.integers(1, 2))):
            self.tracker.done(record(key, offset))
        self.out[key].discard(offset)
        self.finished[key].add(offset)
        self._made_room()

    def _made_room(self) -> None:
        if self.count() <= LIMIT * 3 // 4:
            self.full = False

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
        assert self.memory.used == sum(offset % 7 for out in self.out.values() for offset in out)

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


TestInFlight = Model.TestCase
