"""Tests of `RequestReply`: with any order, repeats and losses, each caller gets the result of its own request once."""

import asyncio
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.kafka.settings import KafkaSettings
from broker.replies.request_reply import RequestReply
from schemas.headers import CORRELATION, RawHeaders
from schemas.result import Result, parse_result

IDS = st.sampled_from(["a", "b"])


class Sent:
    """Request in progress: the waiting task, and the correlation that it was sent with."""

    def __init__(self, query_id: str, task: asyncio.Task[Result], number: str) -> None:
        self.query_id = query_id
        self.task = task
        self.number = number
        self.result: Result | None = None
        """Result that the caller must get."""
        self.given_up = False


class Wire:
    """Producer that accepts every request, and keeps the correlations."""

    def __init__(self) -> None:
        self.numbers: list[str] = []

    async def send(self, *_: Any, headers: RawHeaders, **__: Any) -> asyncio.Future[Any]:
        self.numbers.append(dict(headers)[CORRELATION].decode())
        return asyncio.get_running_loop().create_future()


class Pairing(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.requests = self.loop.run_until_complete(self.made())
        self.sent: list[Sent] = []
        self.count = 0

    async def made(self) -> RequestReply:
        requests = RequestReply(KafkaSettings(), "test", max_in_flight=4)
        self.wire = Wire()
        requests.producer = self.wire  # pyright: ignore[reportAttributeAccessIssue]
        return requests

    def settle(self) -> None:
        for _ in range(4):
            self.loop.run_until_complete(asyncio.sleep(0))

    @precondition(lambda self: self.requests.in_flight < 4)
    @rule(query_id=IDS)
    def ask(self, query_id: str) -> None:
        task = self.loop.create_task(self.requests.ask(query_id, "t", b"", []))
        self.settle()
        self.sent.append(Sent(query_id, task, self.wire.numbers[-1]))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), correlation=st.sampled_from(["own", "", "guessed-1"]))
    def answer(self, data: st.DataObject, correlation: str) -> None:
        """Deliver a result, which may be a duplicate, too late, or from a sender that knows only the id."""
        asked = data.draw(st.sampled_from(self.sent))
        self.count += 1
        headers = {"infaas-id": asked.query_id, "infaas-status": "ok"}
        if correlation:
            headers[CORRELATION] = asked.number if correlation == "own" else correlation
        result = parse_result(headers, b"%d" % self.count)
        if correlation == "own" and asked.result is None and not asked.given_up:
            asked.result = result
        self.requests.deliver(result)
        self.settle()

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(self.sent))
        asked.given_up = asked.given_up or asked.result is None
        asked.task.cancel()
        self.settle()

    @invariant()
    def everyone_has_their_own(self) -> None:
        waiting = 0
        for asked in self.sent:
            if asked.result is not None:
                assert asked.task.result() is asked.result
            elif asked.given_up:
                assert asked.task.cancelled()
            else:
                assert not asked.task.done()
                waiting += 1
        assert self.requests.in_flight == waiting

    def teardown(self) -> None:
        for asked in self.sent:
            asked.task.cancel()
        self.settle()
        self.loop.close()


TestPairing = Pairing.TestCase
