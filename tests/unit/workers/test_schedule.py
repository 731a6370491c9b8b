import gc
import weakref
from collections.abc import Hashable
from dataclasses import dataclass, field

import pytest

from schemas.latency import BatchLatency, LatencyModel
from workers.slots.batch_queue import NO_DEADLINE, BatchQueue, Rank, Urgency
from workers.slots.schedule import SlotSchedule

IDLE_S = 10.0
"""Seconds after which no online work is expected."""


@dataclass(eq=False)
class Batch:
    name: str
    inputs: int = 1
    predicted_s: float = 1.0
    limit_s: float = 60.0
    shared: bool = False
    consecutive: bool = False


@dataclass(eq=False)
class Source:
    """Source whose batches are its entries, by urgency."""

    parallel: int = 1
    width: int = 1
    is_concurrent: bool = True
    limit_s: float = 60.0
    work: list[tuple[Urgency, str]] = field(default_factory=list[tuple[Urgency, str]])
    shares: list[int] = field(default_factory=list[int])
    batches: list[Batch] = field(default_factory=list[Batch])

    def add(self, rank: int, deadline_s: float, *names: str) -> None:
        self.work += [((rank, deadline_s, number), name) for number, name in enumerate(names)]
        self.work.sort()

    def urgency(self) -> Urgency | None:
        return self.work[0][0] if self.work else None

    def next_batch(self, slots: int, now_s: float) -> Batch:
        self.shares.append(slots)
        self.batches.append(Batch(self.work.pop(0)[1], limit_s=self.limit_s))
        return self.batches[-1]


class Device:
    """Slots under a virtual clock, and the batches that they compute, by name."""

    def __init__(self, slots: int, *sources: Source, spare: int = 0) -> None:
        self.schedule: SlotSchedule[Batch] = SlotSchedule(slots, spare)
        self.now_s = 100.0
        self.slot: dict[str, int] = {}
        self.log: list[str] = []
        for source in sources:
            self.schedule.add_source(source)

    def begin(self) -> list[str]:
        """Begin all batches that may begin, and return their names."""
        names: list[str] = []
        while (begun := self.schedule.begin(self.now_s)) is not None:
            slot, batch = begun
            assert slot not in self.slot.values()
            self.slot[batch.name] = slot
            names.append(batch.name)
        return names

    def end(self, name: str) -> list[str]:
        """End a batch, and begin all that may begin then."""
        self.log.append(name)
        self.schedule.end(self.slot.pop(name), self.now_s)
        return self.begin()

    def finish(self) -> list[str]:
        """Compute all that waits. Returns the names of the batches since the start, in the order of their ends."""
        self.begin()
        while self.slot:
            self.end(next(iter(self.slot)))
        return self.log


def test_schedule_orders_by_rank_then_deadline_across_sources() -> None:
    a, b = Source(), Source()
    device = Device(1, a, b)
    a.add(Rank.OFFLINE, 1.0, "offline")
    a.add(Rank.ONLINE, 9.0, "late")
    b.add(Rank.ONLINE, 3.0, "early")
    b.add(Rank.TURN, 99.0, "piece")
    assert device.finish() == ["piece", "early", "late", "offline"]


def test_schedule_orders_work_without_deadline_by_arrival() -> None:
    """An instance with many earlier batches must not wait for a new one."""
    schedule: SlotSchedule[QueueSource] = SlotSchedule(1)
    old, new = QueueSource("old", schedule), QueueSource("new", schedule)
    for _ in range(100):
        old.queue.add(Work())
        old.next_batch(1, 0.0)
    for _ in range(20):
        old.queue.add(Work())
        new.queue.add(Work())
    log: list[str] = []
    while (begun := schedule.begin(0.0)) is not None:
        log.append(begun[1].name)
        schedule.end(begun[0], 0.0)
    assert log == ["old", "new"] * 20


def test_schedule_fills_all_slots_from_one_source() -> None:
    source = Source(parallel=3)
    device = Device(3, source)
    source.add(Rank.ONLINE, 1.0, *"abcd")
    assert device.begin() == ["a", "b", "c"]
    assert source.shares == [3, 2, 1], "each is one of those for the slots that are free"
    assert not device.schedule.has_free
    assert device.end("b") == ["d"]
    assert device.end("d") == []
    assert device.schedule.has_free


@pytest.mark.parametrize(("width", "others", "share"), [(1, 0, 4), (1, 1, 3), (2, 0, 2), (2, 1, 1)])
def test_schedule_leaves_slots_to_other_sources(width: int, others: int, share: int) -> None:
    source, other = Source(parallel=4, width=width), Source()
    device = Device(4, source, other)
    source.add(Rank.ONLINE, 1.0, "first")
    other.add(Rank.ONLINE, 2.0, *["other"] * others)
    device.schedule.begin(device.now_s)
    assert source.shares == [share]


def test_schedule_respects_parallel_limit_of_source() -> None:
    one, two = Source(), Source(parallel=2)
    device = Device(4, one, two)
    one.add(Rank.ONLINE, 1.0, "a", "b")
    two.add(Rank.ONLINE, 2.0, "c", "d", "e")
    assert device.begin() == ["a", "c", "d"]
    assert device.end("a") == ["b"]
    assert device.end("c") == ["e"]
    assert sorted(device.finish()) == list("abcde")


def test_schedule_tries_next_source_without_batch() -> None:
    """The most urgent source may find that all of its work has expired."""

    class Expired(Source):
        def next_batch(self, slots: int, now_s: float) -> Batch | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            self.work.clear()

    expired, well = Expired(), Source()
    device = Device(1, expired, well)
    expired.add(Rank.ONLINE, 1.0, "expired")
    well.add(Rank.ONLINE, 2.0, "well")
    assert device.begin() == ["well"]


def test_schedule_reserves_slots_for_urgent_wide_batch() -> None:
    narrow, later, wide = Source(), Source(), Source(width=2)
    device = Device(2, narrow, later, wide)
    narrow.add(Rank.ONLINE, 1.0, "narrow")
    assert device.begin() == ["narrow"]
    wide.add(Rank.ONLINE, 2.0, "wide")
    later.add(Rank.ONLINE, 3.0, "later")
    assert device.begin() == [], "the slot that is free is kept for the more urgent batch"
    assert device.end("narrow") == ["wide"], "it has both slots"
    assert wide.shares == [1]
    assert device.end("wide") == ["later"]


def test_schedule_wide_batch_occupies_and_frees_its_slots() -> None:
    wide, narrow = Source(width=2), Source(parallel=3)
    device = Device(3, wide, narrow)
    wide.add(Rank.ONLINE, 1.0, "wide")
    narrow.add(Rank.ONLINE, 2.0, "a", "b", "c")
    assert device.begin() == ["wide", "a"]
    assert narrow.shares == [1], "one slot is left"
    assert device.end("wide") == ["b", "c"]


def test_schedule_starts_full_width_offline_batch_beside_online() -> None:
    online, wide = Source(), Source(width=2)
    device = Device(2, online, wide)
    online.add(Rank.ONLINE, 1.0, *"0123456789")
    device.finish()
    assert device.schedule.expects_online(device.now_s)
    wide.add(Rank.OFFLINE, 9.0, "offline")
    assert device.begin() == ["offline"]


def test_schedule_offline_batches_do_not_overtake_wide_batch() -> None:
    online, first, second, wide, later = Source(), Source(), Source(), Source(width=2), Source()
    device = Device(3, online, first, second, wide, later)
    online.add(Rank.ONLINE, 1.0, "online")
    device.finish()  # online work is expected from now on
    for deadline_s, (name, source) in enumerate({"a": first, "b": second, "wide": wide, "later": later}.items()):
        source.add(Rank.OFFLINE, deadline_s, name)
    assert device.begin() == ["a", "b"]
    assert device.end("a") == [], "what takes one slot would be before it as long as there is any"
    assert device.end("b") == ["wide"]
    first.add(Rank.OFFLINE, 9.0, "c")
    assert device.end("wide") == ["later", "c"], "both of its slots are free again"


@pytest.mark.parametrize("rank", [Rank.PIECE, Rank.OFFLINE])
def test_schedule_keeps_slot_free_for_online_work(rank: int) -> None:
    online, offline = Source(), Source(parallel=3)
    device = Device(3, online, offline)
    online.add(Rank.ONLINE, 1.0, "online")
    device.finish()
    offline.add(rank, 1.0, "a", "b", "c", "d")
    assert device.begin() == ["a", "b"]
    online.add(Rank.ONLINE, 1.0, "at once")
    assert device.begin() == ["at once"]
    assert device.end("at once") == []
    device.now_s += IDLE_S
    assert device.begin() == ["c"], "no online work is expected"
    assert sorted(device.finish()) == ["a", "at once", "b", "c", "d", "online"]


@pytest.mark.parametrize("computing", [False, True])
def test_schedule_owes_pieces_time_unless_one_computes(computing: bool) -> None:
    online, large = Source(), Source(parallel=2)
    device = Device(2, online, large)
    device.schedule.turn.waiting = 1
    large.add(Rank.PIECE, 1.0, *["piece"] * computing)
    device.begin()
    online.add(Rank.ONLINE, 1.0, "online")
    device.begin()
    assert device.schedule.turn.is_due is not computing


@pytest.mark.parametrize("slots", [1, 3])
def test_schedule_uses_all_slots_for_offline_work_alone(slots: int) -> None:
    offline = Source(parallel=3)
    device = Device(slots, offline)
    offline.add(Rank.OFFLINE, 1.0, "a", "b", "c", "d")
    assert len(device.begin()) == slots
    assert sorted(device.finish()) == list("abcd")


def test_schedule_expects_online_after_online_batch() -> None:
    source = Source()
    device = Device(1, source)
    source.add(Rank.OFFLINE, 1.0, "offline")
    device.finish()
    assert not device.schedule.expects_online(device.now_s)
    source.add(Rank.ONLINE, 1.0, "online")
    device.finish()
    assert device.schedule.expects_online(device.now_s)
    assert not device.schedule.expects_online(device.now_s + IDLE_S)


@pytest.mark.parametrize("count", [1, 2])
def test_schedule_marks_batches_that_shared_device(count: int) -> None:
    source = Source(parallel=2)
    device = Device(2, source)
    source.add(Rank.ONLINE, 1.0, *"ab"[:count])
    device.finish()
    assert [batch.shared for batch in source.batches] == [count > 1] * count


def test_schedule_marks_consecutive_batches_of_source() -> None:
    one, other = Source(), Source()
    device = Device(1, one, other)
    for deadline_s, source in enumerate((one, one, other, one, one)):
        source.add(Rank.ONLINE, deadline_s, str(deadline_s))
    device.finish()
    assert [batch.consecutive for batch in one.batches] == [False, True, False, True]
    assert [batch.consecutive for batch in other.batches] == [False]


def test_schedule_ignores_removed_source() -> None:
    source = Source()
    device = Device(1, source)
    source.add(Rank.ONLINE, 1.0, "under way")
    device.begin()
    device.schedule.remove_source(source)
    source.add(Rank.ONLINE, 1.0, "gone")
    assert device.end("under way") == []


def test_schedule_releases_removed_source() -> None:
    """A slot's reference to the source of its last batch would keep an unloaded model in memory."""
    source = Source()
    device = Device(2, source)
    source.add(Rank.ONLINE, 1.0, "batch")
    device.finish()
    device.schedule.remove_source(source)
    gone = weakref.ref(source)
    del source
    gc.collect()
    assert gone() is None


def test_schedule_busy_s_counts_slot_seconds() -> None:
    narrow, wide = Source(), Source(width=2)
    device = Device(3, narrow, wide)
    narrow.add(Rank.ONLINE, 1.0, "narrow")
    wide.add(Rank.ONLINE, 2.0, "wide")
    busy_s = [device.schedule.busy_s(device.now_s)]
    device.begin()
    for name in ("narrow", "wide"):
        device.now_s += 0.5
        busy_s.append(device.schedule.busy_s(device.now_s))
        device.end(name)
    busy_s.append(device.schedule.busy_s(device.now_s + 9.0))
    assert busy_s == [0.0, 1.5, 2.5, 2.5], "an idle slot adds nothing"


def test_schedule_left_s_is_predicted_minus_elapsed_time() -> None:
    """Without subtracting elapsed time, the backlog would contain the whole of an almost finished batch."""
    wide, narrow, offline = Source(width=2), Source(), Source()
    device = Device(4, wide, narrow, offline)
    left_s = [device.schedule.left_s(device.now_s)]
    for source in (wide, narrow, offline):
        source.add(Rank.OFFLINE if source is offline else Rank.ONLINE, 1.0, f"batch {len(left_s)}")
        device.begin()
        device.now_s += 0.25
        left_s.append(device.schedule.left_s(device.now_s))
    device.now_s += 7.0
    left_s.append(device.schedule.left_s(device.now_s))
    nothing = [0.0] * 4
    both = [[0.5, 0.5, 0.75, 0.0], [0.25, 0.25, 0.5, 0.0]]
    late = [6.75, 6.75, 6.5, 0.0]
    assert left_s == [nothing, [0.75, 0.75, 0.0, 0.0], *both, late], "online work never waits for offline work"


@pytest.mark.parametrize(("elapsed_s", "done"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0), (1.5, 0.5)])
def test_schedule_done_inputs_follow_prediction(elapsed_s: float, done: float) -> None:
    """An overdue batch is assumed to take its excess once more, so less of it counts as done."""
    online, offline = Source(), Source()
    device = Device(2, online, offline)
    online.add(Rank.ONLINE, 1.0, "online")
    offline.add(Rank.OFFLINE, 1.0, "offline")
    device.begin()
    now_s = device.now_s + elapsed_s
    assert device.schedule.done_inputs(online, now_s) == pytest.approx(done * Batch.inputs)
    assert device.schedule.done_inputs(offline, now_s) == 0


def test_schedule_reports_batch_past_limit_once() -> None:
    source = Source(limit_s=3.0)
    device = Device(1, source)
    source.add(Rank.ONLINE, 1.0, "endless")
    device.begin()
    assert [device.schedule.watch(1.0) for _ in range(6)] == [([], [])] * 3 + [([], source.batches)] + [([], [])] * 2


@pytest.mark.parametrize("concurrent", [True, False])
def test_schedule_sets_stuck_batch_aside(concurrent: bool) -> None:
    """Other batches use a spare slot; those of the same source only if its session is thread-safe."""
    stuck, well = Source(is_concurrent=concurrent, width=2, limit_s=3.0), Source(parallel=2)
    device = Device(2, stuck, well, spare=1)
    stuck.add(Rank.ONLINE, 1.0, "stuck", "behind")
    well.add(Rank.ONLINE, 3.0, "a", "b", "c")
    assert device.begin() == ["stuck"]
    assert device.schedule.watch(0.3) == ([], [])
    assert device.schedule.watch(0.1) == (stuck.batches, [])
    assert device.schedule.left_s(device.now_s) == [0.0, 0.0], "nobody waits for it"
    assert device.schedule.done_inputs(stuck, device.now_s) == 1
    assert device.schedule.busy_s(device.now_s + 1.0) == 1.0, "its other slot is free"
    assert device.begin() == (["behind"] if concurrent else ["a", "b"])
    assert device.end("stuck") == []
    assert sorted(device.finish()) == ["a", "b", "behind", "c", "stuck"]
    assert device.schedule.watch(9.0) == ([], [])
    stuck.add(Rank.ONLINE, 1.0, "stuck again")
    assert device.begin() == ["stuck again"]
    assert device.schedule.watch(9.0) == (stuck.batches[-1:], stuck.batches[-1:]), "the slot is spare again"


def test_schedule_is_exhausted_when_all_slots_are_stuck() -> None:
    stuck = Source(limit_s=3.0)
    device = Device(1, stuck, spare=2)
    stuck.add(Rank.ONLINE, 1.0, "a", "b", "c")
    exhausted: list[bool] = []
    for _ in range(4):
        device.begin()
        exhausted.append(device.schedule.is_exhausted)
        device.schedule.watch(0.5)
    exhausted.append(device.schedule.is_exhausted)
    assert exhausted == [False, False, False, True, True]
    device.end("b")
    assert not device.schedule.is_exhausted


@dataclass(eq=False)
class Work:
    inputs: int = 1
    shape: Hashable = ()
    extra_s: float = 0.0
    deadline_s: float = NO_DEADLINE
    offline: bool = False
    allow_late: bool = False


class QueueSource:
    """Source and batch in one: an instance's queue with batches of one input."""

    inputs = 1
    predicted_s = 1e-3
    limit_s = 60.0
    shared = False
    consecutive = False
    is_concurrent = True
    parallel = 1
    width = 1

    def __init__(self, name: str, schedule: "SlotSchedule[QueueSource]") -> None:
        self.queue: BatchQueue[Work] = BatchQueue(LatencyModel([BatchLatency(1, 1e-3, 1e-3)], 1), schedule.arrivals)
        self.name = name
        schedule.add_source(self)

    def urgency(self) -> Urgency | None:
        return self.queue.urgency()

    def next_batch(self, slots: int, now_s: float) -> "QueueSource":
        self.queue.next_batch(now_s, 1.0)
        return self
