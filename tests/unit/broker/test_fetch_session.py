"""Tests of `FetchSession`: whatever is lost, the broker reads the wanted partitions from the wanted positions."""

from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from broker.fetch.fetch_session import ONCE, FetchSession, Place, SessionRequest

PARTITIONS = [TopicPartition(topic, number) for topic in "ab" for number in range(3)]
UNKNOWN, WRONG_EPOCH = 70, 71

wanted = st.dictionaries(
    st.sampled_from(PARTITIONS), st.tuples(st.integers(0, 3), st.integers(-1, 1), st.sampled_from([10, 20]))
)
fates = st.sampled_from(["answered", "request lost", "answer lost", "broker forgets", "no session given"])


class ModelBroker:
    """Fetch sessions as Kafka keeps them."""

    def __init__(self) -> None:
        self.sessions: dict[int, dict[TopicPartition, Place]] = {}
        self._epochs: dict[int, int] = {}
        self._made = 0

    def take(self, request: SessionRequest, *, give: bool) -> tuple[int, int, dict[TopicPartition, Place]]:
        """Return the error code, the session, and the partitions that are read."""
        if request.epoch <= 0:
            self.sessions.pop(request.session, None)
            assert not request.forget
            if not give or request.epoch == ONCE:
                return 0, 0, dict(request.read)
            self._made += 1
            self.sessions[self._made], self._epochs[self._made] = dict(request.read), 1
            return 0, self._made, dict(request.read)
        session = self.sessions.get(request.session)
        if session is None:
            return UNKNOWN, 0, {}
        if self._epochs[request.session] != request.epoch:
            return WRONG_EPOCH, 0, {}
        self._epochs[request.session] += 1
        session.update(request.read)
        for partition in request.forget:
            del session[partition]
        return 0, request.session, dict(session)


@given(st.lists(st.tuples(wanted, fates), max_size=20), st.booleans())
def test_fetch_session_reads_wanted_positions_after_losses(
    steps: list[tuple[dict[TopicPartition, Place], str]], lasting: bool
) -> None:
    broker, session = ModelBroker(), FetchSession(lasting=lasting)
    for places, fate in steps:
        if fate == "broker forgets":
            broker.sessions.clear()
        request = session.request(places)
        if fate == "request lost":
            continue
        code, number, read = broker.take(request, give=fate != "no session given")
        if fate == "answer lost":
            continue
        if code:
            assert fate == "broker forgets"
            code, number, read = broker.take(session.request(places), give=True)
        assert (code, read) == (0, places)
        session.answered(number)
        assert lasting or not broker.sessions


def test_fetch_session_sends_only_changes() -> None:
    broker, session = ModelBroker(), FetchSession()
    a, b, c = PARTITIONS[:3]
    session.answered(broker.take(session.request({a: (5, 2, 10), b: (6, 2, 10)}), give=True)[1])
    request = session.request({a: (7, 2, 10), c: (0, 2, 10)})
    assert (request.read, request.forget) == ([(a, (7, 2, 10)), (c, (0, 2, 10))], [b])
    session.answered(broker.take(request, give=True)[1])
    unchanged = session.request({a: (7, 2, 10), c: (0, 2, 10)})
    assert (unchanged.read, unchanged.forget) == ([], [])
