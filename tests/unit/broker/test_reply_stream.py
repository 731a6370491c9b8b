"""Tests of a reply stream over a connection that fails: each result ends once, acknowledged only if it arrived."""

import asyncio
from typing import Any

from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.kafka.settings import ReplyStreamSettings
from broker.replies.address import StreamAddress
from broker.replies.protocol import pack_ack
from broker.replies.receiver import PARTS_S, ReceiverConnection, ReplyStreamReceiver
from broker.replies.sender_connection import LOOK_S, MAX_BYTES, SenderConnection
from schemas.headers import PART, RawHeaders
from tests.unit.broker.quick_loop import QuickLoop

MOSTLY = [True] * 7 + [False]


class Wire(asyncio.Transport):
    """End of a connection, whose bytes arrive when the test delivers them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, own: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = loop
        self.own = own
        self.under_way = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        if not self.closed:
            self.under_way += data

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self.own.connection_lost, None)


class StreamMachine(RuleBasedStateMachine):
    """Sender and receiver, and the bytes in transit between them."""

    @initialize(knows_token=st.sampled_from(MOSTLY), shaken=st.sampled_from(MOSTLY))
    def connect(self, knows_token: bool, shaken: bool) -> None:
        self.loop = QuickLoop()
        self.sent = 0
        self.parts: dict[int, bool] = {}
        """Numbers of the parts sent, and true if somebody waits for it."""
        self.unwanted: set[int] = set()
        """Parts whose author knows that nobody waits for them."""
        self.arrived: list[int] = []
        self.ends: dict[int, bool] = {}
        self.acknowledged = 0
        self.closed: list[str] = []
        self.loop.run_until_complete(self._connect(knows_token))
        if shaken:
            self.pass_to_and_fro(2)

    async def _connect(self, knows_token: bool) -> None:
        self.receiver = ReplyStreamReceiver(ReplyStreamSettings(), self._on_result)
        token = self.receiver.token if knows_token else "another token"
        address = StreamAddress("127.0.0.1", 1, token)
        self.sender = SenderConnection(address, self._on_acknowledged, self._on_closed)
        self.receiving = ReceiverConnection(self.receiver, "127.0.0.1")
        self.out, self.back = Wire(self.loop, self.sender), Wire(self.loop, self.receiving)
        self.sender.connection_made(self.out)
        self.receiving.connection_made(self.back)
        self.knows_token = knows_token

    def _on_result(self, headers: RawHeaders, value: bytes) -> bool:
        assert headers[0] == ("infaas-id", value[:8])
        self.arrived.append(int(value[:8]))
        return self.parts.get(self.arrived[-1]) is False

    def _on_acknowledged(self, count: int) -> None:
        self.acknowledged += count

    def _on_closed(self, _connection: SenderConnection, reason: str, failed: int) -> None:
        self.closed.append(reason)
        assert failed == self.results_sent() - len(self.ends)

    def results_sent(self) -> int:
        return self.sent - len(self.parts)

    def _turn(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0))

    @precondition(lambda self: self.sender.authenticated.done())
    @rule(count=st.integers(1, 5), size=st.sampled_from([8, 100, MAX_BYTES // 3, MAX_BYTES]))
    def send(self, count: int, size: int) -> None:
        for _ in range(count):
            number = self.sent
            value = (b"%08d" % number).ljust(size, b".")
            if self.sender.send([("infaas-id", value[:8])], value, lambda ok, n=number: self._on_end(n, ok)):
                self.sent += 1

    @precondition(lambda self: self.sender.authenticated.done())
    @rule(wanted=st.booleans())
    def send_part(self, wanted: bool) -> None:
        number = self.sent
        value = b"%08d" % number
        headers: RawHeaders = [("infaas-id", value), (PART, b"a 0")]
        if self.sender.send_part(headers, value, lambda: self._on_unwanted(number)):
            self.sent += 1
            self.parts[number] = wanted

    def _on_unwanted(self, number: int) -> None:
        assert not self.parts[number]
        assert number in self.arrived
        self.unwanted.add(number)

    def _on_end(self, number: int, taken: bool) -> None:
        assert number not in self.ends, "a result ended twice"
        self.ends[number] = taken

    @rule(share=st.sampled_from([0.1, 0.5, 1.0]), back=st.booleans(), count=st.integers(1, 3))
    def send_and_deliver(self, share: float, back: bool, count: int) -> None:
        if self.sender.authenticated.done():
            self.send(count, 100)
        self.deliver(share, back)

    @rule(share=st.sampled_from([0.1, 0.5, 1.0]), back=st.booleans())
    def deliver(self, share: float, back: bool) -> None:
        """Deliver a part of the bytes in transit."""
        self._turn()
        wire, other = (self.back, self.out) if back else (self.out, self.back)
        count = round(share * len(wire.under_way))
        data = bytes(wire.under_way[:count])
        del wire.under_way[:count]
        if data and not other.closed:
            other.own.data_received(data)
        self._turn()

    @rule(turns=st.integers(1, 4))
    def pass_to_and_fro(self, turns: int) -> None:
        for _ in range(turns):
            self.deliver(1.0, False)
            self.deliver(1.0, True)

    @rule(back=st.booleans())
    @precondition(lambda self: self.sent > 12)
    def break_off(self, back: bool) -> None:
        (self.back if back else self.out).abort()
        self._turn()

    @rule()
    @precondition(lambda self: self.sent > 8 or not self.knows_token)
    def wait(self) -> None:
        """Wait for longer than a receiver may take; results without an acknowledgement have failed by then."""
        self._turn()
        self.loop.pass_time(2.1 * LOOK_S)
        assert len(self.ends) == self.results_sent()

    @invariant()
    def only_what_has_arrived_is_said_to_have(self) -> None:
        assert self.arrived == list(range(len(self.arrived))), "results come in order, each once"
        assert all(number in self.arrived for number, taken in self.ends.items() if taken)
        assert self.acknowledged == sum(self.ends.values())
        last = max((number for number, taken in self.ends.items() if taken), default=-1)
        assert self.unwanted >= {number for number, wanted in self.parts.items() if number < last and not wanted}

    @invariant()
    def nothing_is_sent_to_strangers(self) -> None:
        if not self.knows_token:
            assert not self.sent
            assert not self.arrived

    def teardown(self) -> None:
        if not hasattr(self, "sender"):
            return
        self.break_off(back=False)
        assert len(self.ends) == self.results_sent(), "a result has no end"
        assert len(self.closed) == 1
        assert not self.out.closed or not self.sender.send([], b"", lambda _ok: None)
        self.loop.close()


TestStreamMachine = StreamMachine.TestCase
TestStreamMachine.settings = profile(max_examples=100, stateful_step_count=30, deadline=None)


def test_parts_are_acknowledged_together_and_results_at_once() -> None:
    machine = StreamMachine()
    machine.connect(knows_token=True, shaken=True)
    for _ in range(3):
        machine.send_part(wanted=True)
        machine.deliver(1.0, back=False)
    assert not machine.back.under_way
    machine.loop.pass_time(PARTS_S)
    assert machine.back.under_way == pack_ack(3)
    machine.pass_to_and_fro(1)
    machine.send_part(wanted=True)
    machine.send(1, 8)
    machine.deliver(1.0, back=False)
    assert machine.back.under_way == pack_ack(5)
    machine.teardown()
