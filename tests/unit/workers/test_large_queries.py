"""Tests of large queries: order, fairness between tenants, and the share of pieces beside small queries."""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from schemas.latency import PIECE_S, PIECES_SHARE, BatchLatency, LatencyModel
from workers.slots.batch_queue import NO_DEADLINE, BatchQueue, Rank
from workers.slots.large_queries import PATIENCE_S, LargeQueries, PieceTurn
from workers.slots.schedule import SlotSchedule

NOW = 1000.0
LATENCY = LatencyModel([BatchLatency(1, 0.001, 0.001), BatchLatency(8, 0.004, 0.004)], max_batch=8)


@dataclass(eq=False)
class Piece:
    query: str = "q"
    number: int = 0
    inputs: int = 8
    shape: Hashable = "a"
    extra_s: float = 0.0
    deadline_s: float = NO_DEADLINE
    offline: bool = False
    allow_late: bool = False


def pieces(query: str, count: int, deadline_s: float = NO_DEADLINE, offline: bool = False) -> list[Piece]:
    return [Piece(query, number, deadline_s=deadline_s, offline=offline) for number in range(count)]


queries = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "b"]), st.integers(2, 6), st.sampled_from([NO_DEADLINE, NOW + 1, NOW - 1, NOW + 30])
    ),
    max_size=8,
)


@given(queries)
def test_large_queries_take_each_piece_once_and_in_order(asked: list[tuple[str, int, float]]) -> None:
    waiting: LargeQueries[Piece] = LargeQueries()
    for arrival, (tenant, count, deadline_s) in enumerate(asked):
        waiting.add(tenant, pieces(str(arrival), count, deadline_s), arrival, NOW)
    expired = waiting.expire(NOW)
    late = {str(arrival) for arrival, query in enumerate(asked) if query[2] <= NOW}
    assert (len(expired), {piece.query for piece in expired}) == (len(late), late), "each query expires once"
    taken: list[tuple[str, int]] = []
    while waiting.next_key() is not None:
        piece = waiting.take()
        taken.append((piece.query, piece.number))
    assert sorted(taken) == [
        (str(arrival), number) for arrival, (_, count, at) in enumerate(asked) if at > NOW for number in range(count)
    ]
    assert all(
        [n for query, n in taken if query == str(arrival)] == [*range(count)]
        for arrival, (_, count, at) in enumerate(asked)
        if at > NOW
    )
    assert (waiting.inputs, waiting.queries) == (0, 0)


@given(st.integers(1, 20), st.integers(1, 20))
def test_large_queries_are_fair_between_tenants(many: int, count: int) -> None:
    waiting: LargeQueries[Piece] = LargeQueries()
    for number in range(many):
        waiting.add("bulk", pieces("bulk", count), number, NOW)
    waiting.add("small", pieces("small", count), many, NOW)
    taken = Counter(waiting.take().query for _ in range(2 * count))
    assert abs(taken["bulk"] - taken["small"]) <= 1


def test_large_queries_give_new_tenant_no_credit() -> None:
    waiting: LargeQueries[Piece] = LargeQueries()
    waiting.add("old", pieces("old", 50), 0, NOW)
    for _ in range(20):
        waiting.take()
    waiting.add("new", pieces("new", 30), 1, NOW)
    taken = Counter(waiting.take().query for _ in range(20))
    assert taken == {"old": 10, "new": 10}


def test_large_query_without_deadline_waits_bounded_time() -> None:
    waiting: LargeQueries[Piece] = LargeQueries()
    waiting.add("", pieces("patient", 2), 0, NOW)
    waiting.add("", pieces("urgent", 2, NOW + 1), 1, NOW)
    assert waiting.take().query == "urgent"
    waiting.add("", pieces("later", 2, NOW + PATIENCE_S + 1), 2, NOW + PATIENCE_S)
    assert [waiting.take().query for _ in range(3)] == ["urgent", "patient", "patient"]


def test_batch_queue_discards_pieces() -> None:
    turn = PieceTurn()
    queue: BatchQueue[Piece] = BatchQueue(LATENCY, turn=turn)
    gone, kept = pieces("gone", 3), pieces("kept", 2)
    queue.add_large("", gone, NOW)
    queue.add_large("", kept, NOW)
    assert (turn.waiting, queue.large_inputs) == (2, 40)
    queue.discard(gone)
    assert (turn.waiting, queue.large_inputs, set(map(id, queue.waiting()))) == (1, 16, set(map(id, kept)))
    assert [queue.next_batch(NOW, 1.0).batch for _ in range(2)] == [[piece] for piece in kept]
    assert (turn.waiting, queue.urgency()) == (0, None)


def test_batch_queue_takes_online_pieces_before_offline_ones() -> None:
    queue: BatchQueue[Piece] = BatchQueue(LATENCY)
    queue.add_large("", pieces("offline", 2, offline=True), NOW)
    queue.add_large("", pieces("online", 2), NOW)
    queue.add(Piece("small"))
    taken = [queue.next_batch(NOW, 1.0).batch[0].query for _ in range(5)]
    assert taken == ["small", "online", "online", "offline", "offline"]
    assert (queue.large_inputs, queue.offline_inputs) == (0, 0)


@given(st.integers(1, 4000), st.floats(1e-6, 1.0), st.integers(1, 64))
def test_piece_inputs_bound_time_of_piece(inputs: int, batch_s: float, most: int) -> None:
    latency = LatencyModel([BatchLatency(1, batch_s, batch_s), BatchLatency(64, 8 * batch_s, 8 * batch_s)], most)
    piece = latency.piece_inputs
    assert piece % latency.best_batch == 0
    assert piece == latency.best_batch or latency.batch_s(latency.best_batch) * piece / latency.best_batch <= PIECE_S
    assert latency.query_s(inputs) >= latency.promised_s(inputs)
    assert latency.query_s(inputs + 1) >= latency.query_s(inputs)


@dataclass(eq=False)
class Batch:
    name: str
    predicted_s: float
    inputs: int = 1
    limit_s: float = 60.0
    shared: bool = False
    consecutive: bool = False


class Source:
    """Queue with `small` small queries and a large one of `large` pieces."""

    is_concurrent = True
    parallel = width = 1

    def __init__(self, schedule: SlotSchedule[Batch], small: int, large: int) -> None:
        self.queue: BatchQueue[Piece] = BatchQueue(LATENCY, schedule.arrivals, schedule.turn)
        for number in range(small):
            self.queue.add(Piece(f"small {number}", deadline_s=NOW * 1e9 + number))
        self.queue.add_large("", pieces("large", large), NOW)

    def urgency(self) -> tuple[int, float, int] | None:
        return self.queue.urgency()

    def next_batch(self, slots: int, now_s: float) -> Batch:
        (work,) = self.queue.next_batch(now_s, 1.0).batch
        return Batch(work.query.split()[0], LATENCY.batch_s(work.inputs))


def test_pieces_get_their_share_beside_small_queries() -> None:
    schedule: SlotSchedule[Batch] = SlotSchedule(1)
    source = Source(schedule, 300, 150)
    schedule.add_source(source)
    log: list[str] = []
    while (begun := schedule.begin(NOW)) is not None:
        log.append(begun[1].name)
        schedule.end(begun[0], NOW)
    both = log[: len(log) - log[::-1].index("small")]
    assert Counter(log) == {"small": 300, "large": 150}
    assert abs(both.count("large") / len(both) - PIECES_SHARE) < 0.02
    assert "large large" not in " ".join(both[:-1]), "a small query waits for one piece"
    assert source.urgency() is None


def test_ranks_are_ordered() -> None:
    assert Rank.TURN < Rank.ONLINE < Rank.PIECE < Rank.OFFLINE
