"""Tests of variants that no worker can load: they are refused at once with the reason, until something changes."""

from msgspec.structs import replace

from schemas.errors import ModelFailed, Overloaded
from schemas.needs import Mode
from schemas.status import InstanceState, InstanceStatus
from selector.choice import Choice, PolicyConfig, Refusal
from selector.cluster_state import ClusterState
from selector.explain import explain
from selector.late_binding import bind
from selector.policy import choose
from tests.unit.selector.story import BEST, FAST, GOOD, NOW, explained, instance, query, status, three

CONFIG = PolicyConfig()


def failed(name: str) -> InstanceStatus:
    return replace(instance(name, state=InstanceState.FAILED, partitions=()), reason="no kernel")


def loading(name: str) -> InstanceStatus:
    return instance(name, state=InstanceState.LOADING, partitions=())


def outcome_of(state: ClusterState, *, target: str = BEST, latency_ms: float | None = None) -> Choice | Refusal:
    return choose(query(target=target, latency_ms=latency_ms), state, NOW, CONFIG)


def test_choose_refuses_unloadable_variant_with_reason() -> None:
    state = three()
    assert isinstance(outcome_of(state), Choice), "it may be loaded yet"
    state.apply_status(status(instance(FAST), instance(GOOD), failed(BEST)), NOW)
    for latency_ms in (None, 5_000.0):
        outcome = outcome_of(state, latency_ms=latency_ms)
        assert isinstance(outcome, Refusal)
        assert isinstance(outcome.error, ModelFailed)
        assert str(outcome.error) == f"{BEST} cannot be loaded: no kernel"
        assert outcome.wanted is not None
        assert outcome.wanted.name == BEST
        asked = query(target=BEST, latency_ms=latency_ms)
        considered = explained(explain(asked, state, NOW, CONFIG, outcome))["considered"]
        assert "cannot be loaded: no kernel" in str(considered)


def test_bind_refuses_unloadable_variant() -> None:
    state = three()
    state.apply_status(status(failed(BEST)), NOW)
    outcome = bind(query(target=BEST, mode=Mode.OFFLINE), state, NOW, CONFIG)
    assert isinstance(outcome, Refusal)
    assert isinstance(outcome.error, ModelFailed)


def test_choose_uses_other_variant_of_the_task() -> None:
    state = three()
    state.apply_status(status(failed(FAST), instance(GOOD)), NOW)
    outcome = choose(query(), state, NOW, CONFIG)
    assert isinstance(outcome, Choice)
    assert outcome.variant.name == GOOD
    state.apply_status(status(failed(FAST), failed(GOOD)), NOW)
    outcome = choose(query(), state, NOW, CONFIG)
    assert isinstance(outcome, Choice), "waits for the one that may be loaded"
    assert outcome.variant.name == BEST


def test_unloadable_variant_recovers_on_another_worker() -> None:
    state = three()
    state.apply_status(status(failed(BEST)), NOW)
    state.apply_status(status(loading(BEST), worker="cpu-1"), NOW)
    assert isinstance(outcome_of(state), Choice)
    state.apply_status(status(failed(BEST), worker="cpu-1"), NOW)
    assert isinstance(outcome_of(state), Refusal)
    state.apply_status(status(instance(BEST), worker="cpu-2"), NOW)
    outcome = outcome_of(state)
    assert isinstance(outcome, Choice)
    assert outcome.instance is not None


def test_unloadable_variant_recovers_if_worker_is_gone() -> None:
    state = three()
    state.apply_status(status(failed(BEST)), NOW)
    state.apply_status(status(worker="cpu-1"), NOW + 3.0)
    state.expire(NOW + 3.5)
    outcome = choose(query(target=BEST, sent=NOW + 3.5), state, NOW + 3.5, CONFIG)
    assert isinstance(outcome, Choice)
    state.apply_status(replace(status(failed(BEST), worker="cpu-1")), NOW + 3.6)
    state.register(["digits"], [], {})
    outcome = choose(query(), state, NOW + 3.6, CONFIG)
    assert isinstance(outcome, Refusal)
    assert not isinstance(outcome.error, Overloaded)
