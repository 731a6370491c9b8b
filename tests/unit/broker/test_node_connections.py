"""Tests of `NodeConnections`: slow partitions are separated, and quick ones never wait for them."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.producing.node_connections import CONNECTIONS, SLOW_S, NodeConnections
from broker.producing.partition_queue import PartitionQueue


def queues(count: int) -> list[PartitionQueue]:
    return [PartitionQueue("t", number) for number in range(count)]


def begin(connections: NodeConnections, now_s: float) -> tuple[int, list[PartitionQueue]]:
    """Begin the next request with all partitions that may be part of it."""
    opening = connections.opening(now_s)
    assert opening is not None
    taken = list(opening.queues)[: opening.most]
    for queue in taken:
        del opening.queues[queue]
    connections.begin(opening.connection, now_s, slow=opening.slow)
    return opening.connection, taken


def test_connections_batch_partitions_while_request_is_quick() -> None:
    connections, (first, second, third) = NodeConnections(), queues(3)
    connections.add(first)
    connections.add(second)
    connection, taken = begin(connections, 0.0)
    assert taken == [first, second]
    connections.add(third)
    assert connections.opening(SLOW_S / 2) is None
    assert connections.opens_s(SLOW_S / 2) == SLOW_S
    connections.end(connection, SLOW_S / 2, taken)
    assert begin(connections, SLOW_S / 2) == (connection, [third])


def test_connections_open_another_beside_a_slow_request() -> None:
    connections, (first, second) = NodeConnections(), queues(2)
    connections.add(first)
    connection, taken = begin(connections, 0.0)
    connections.add(second)
    other, others = begin(connections, SLOW_S)
    assert (other != connection, others) == (True, [second])
    connections.end(connection, 10.0, taken)
    assert first.slow


def test_connections_find_slow_partition_within_three_rounds() -> None:
    connections, every = NodeConnections(), queues(33)
    culprit, now_s, delayed = every[13], 0.0, 0
    for queue in every:
        connections.add(queue)
    connection, taken = begin(connections, now_s)
    connections.end(connection, now_s := 3.0, taken)
    rounds = 0
    while sum(queue.slow for queue in every) > 1:
        rounds += 1
        for queue in every:
            connections.add(queue)
        under_way = list[tuple[int, list[PartitionQueue]]]()
        while connections.opening(now_s) is not None:
            connection, taken = begin(connections, now_s)
            if culprit in taken:
                under_way.append((connection, taken))
                delayed += len(taken) - 1
            else:
                connections.end(connection, now_s, taken)
        now_s += 3.0
        for connection, taken in under_way:
            connections.end(connection, now_s, taken)
    assert [queue for queue in every if queue.slow] == [culprit]
    assert rounds <= 3


class ConnectionsMachine(RuleBasedStateMachine):
    """Partitions, some of them slow, and requests that end at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.connections = NodeConnections()
        self.idle = queues(12)
        self.under_way: dict[int, tuple[float, list[PartitionQueue]]] = {}
        self.now = 0.0

    @precondition(lambda self: self.idle)
    @rule(data=st.data())
    def add(self, data: st.DataObject) -> None:
        queue = data.draw(st.sampled_from(self.idle))
        self.idle.remove(queue)
        self.connections.add(queue)
        assert queue in self.connections

    @rule()
    def send(self) -> None:
        while self.connections.opening(self.now) is not None:
            connection, taken = begin(self.connections, self.now)
            assert taken
            assert connection not in self.under_way
            assert len({queue.slow for queue in taken}) == 1, "slow ones go with others"
            self.under_way[connection] = self.now, taken

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(sorted(self.under_way)))
        since_s, taken = self.under_way.pop(connection)
        self.connections.end(connection, self.now, taken)
        assert {queue.slow for queue in taken} == {self.now - since_s >= SLOW_S}
        self.idle += taken

    @rule(seconds=st.sampled_from([0.01, SLOW_S, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def requests_are_bounded(self) -> None:
        assert len(self.under_way) <= CONNECTIONS
        young = [since for since, taken in self.under_way.values() if not taken[0].slow and self.now - since < SLOW_S]
        assert len(young) <= 1, "more requests than batches need"

    @invariant()
    def a_connection_is_left_for_quick_partitions(self) -> None:
        assert sum(taken[0].slow for _, taken in self.under_way.values()) < CONNECTIONS

    @invariant()
    def what_waits_has_a_time_or_an_answer_to_wait_for(self) -> None:
        if self.connections:
            assert self.connections.opens_s(self.now) >= self.now
            assert self.under_way or self.connections.opens_s(self.now) == self.now
        else:
            assert self.connections.opening(self.now) is None


TestConnectionsMachine = ConnectionsMachine.TestCase
