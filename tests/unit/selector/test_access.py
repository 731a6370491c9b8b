"""Tests of access: a tenant gets the answer that it would get if the objects hidden from it did not exist."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from process.security.access import includes
from schemas.access import EVERY_TENANT
from schemas.query import Query
from schemas.rows.catalog import Architecture, Profile, Variant
from schemas.status import WorkerStatus
from schemas.versions import Rollout, Versions, versions_of
from selector.dispatch.explanation import explain
from selector.policy.candidates import VIEWS_A_TASK
from selector.policy.choice import Choice, PolicyConfig, Refusal
from selector.policy.cluster_state import ClusterState
from selector.policy.late_binding import Wait, bind, bind_copy
from selector.policy.selection import choose
from tests.unit.selector.story import (
    BEST,
    FAST,
    NOW,
    TASK,
    instance,
    query,
    registered,
    state_of,
    status,
    three,
)
from tests.unit.selector.strategies import QUERY_PARTS, statuses, variants

TENANTS = ("acme", "globex", None)
MODELS = ("a0", "a1", "a2")
NAMES = [f"{architecture}.onnx-{p}.cpu" for architecture in (*MODELS, "a0-v2") for p in ("fp32", "int8")]

_users = st.dictionaries(
    st.sampled_from([TASK, *MODELS]), st.frozensets(st.sampled_from(["acme", "globex"])), max_size=3
)
_queries = st.builds(
    query,
    **QUERY_PARTS,
    id=st.sampled_from([f"q-{n}" for n in range(20)]),
    target=st.none() | st.sampled_from(["a0", "a0@2", "a1", NAMES[0], NAMES[2], "missing"]),
)
_rollouts = st.none() | st.builds(
    Rollout,
    model=st.just("a0"),
    serving=st.just(1),
    candidate=st.just(2),
    share=st.sampled_from([0.5, 1.0]),
    shadow=st.sampled_from([0.0, 1.0]),
)


def _versions(variants: list[tuple[Variant, Profile]], rollout: Rollout | None) -> Versions:
    names = dict.fromkeys(row.architecture for row, _ in variants)
    rows = {
        name: Architecture(
            name=name,
            task=TASK,
            source="0" * 64,
            source_format="onnx",
            model=name.removesuffix("-v2"),
            version=2 if name.endswith("-v2") else 1,
        )
        for name in names
    }
    return versions_of(rows, {} if rollout is None or "a0" not in names else {"a0": rollout})


def _world_of(
    tenant: str | None,
    variants: list[tuple[Variant, Profile]],
    statuses: list[tuple[WorkerStatus, float]],
    rollout: Rollout | None,
    users: dict[str, frozenset[str]],
) -> ClusterState:
    """Return a state without the hidden objects: the workers do the same work, but for another task."""
    seen = [one for one in variants if _may_use(users, tenant, one[0])]
    other = [(msgspec.structs.replace(row, task="other"), p) for row, p in variants if (row, p) not in seen]
    rollout = rollout if all(includes(users.get(name), tenant) for name in (TASK, "a0")) else None
    made, rows = ClusterState(), [*seen, *other]
    tasks = ("other", TASK) if includes(users.get(TASK), tenant) else ("other",)
    made.register(tasks, [row for row, _ in rows], {p.variant: p for _, p in rows}, versions=_versions(seen, rollout))
    for said, age_s in statuses:
        made.apply_status(said, NOW - age_s)
    return made


def _state(
    variants: list[tuple[Variant, Profile]],
    statuses: list[tuple[WorkerStatus, float]],
    rollout: Rollout | None,
    users: dict[str, frozenset[str]],
) -> ClusterState:
    made = ClusterState()
    rows, profiles = [row for row, _ in variants], {one.variant: one for _, one in variants}
    of_versions = {"a0-v2": users["a0"]} if "a0" in users else {}
    made.register((TASK,), rows, profiles, versions=_versions(variants, rollout), users=users | of_versions)
    for said, age_s in statuses:
        made.apply_status(said, NOW - age_s)
    return made


def _may_use(users: dict[str, frozenset[str]], tenant: str | None, row: Variant) -> bool:
    model = row.architecture.removesuffix("-v2")
    return all(includes(users.get(name), tenant) for name in (TASK, model))


def _told(outcome: Choice | Refusal | Wait | None) -> object:
    if isinstance(outcome, Refusal):
        wanted = outcome.wanted and outcome.wanted.name
        return type(outcome.error), str(outcome.error), outcome.error.retry_after_s, wanted
    if isinstance(outcome, Choice):
        where = outcome.instance and outcome.instance.worker.name
        return (
            outcome.variant.name,
            where,
            outcome.partition.number,
            outcome.predicted_s,
            outcome.cost,
            outcome.upgraded,
        )
    return outcome and (outcome.retry_s, outcome.wanted and outcome.wanted.name)


@given(variants(NAMES), statuses(NAMES), _queries, _rollouts, _users, st.sampled_from([*TENANTS, "a-stranger"]))
@settings(max_examples=4 * settings().max_examples)
def test_choose_decides_as_without_hidden_objects(
    variants: list[tuple[Variant, Profile]],
    statuses: list[tuple[WorkerStatus, float]],
    asked: Query,
    rollout: Rollout | None,
    users: dict[str, frozenset[str]],
    tenant: str | None,
) -> None:
    asked, config = msgspec.structs.replace(asked, tenant=tenant), PolicyConfig()
    whole, without = _state(variants, statuses, rollout, users), _world_of(tenant, variants, statuses, rollout, users)
    for decide in (choose, bind):
        for _ in range(2):  # the second time from the cache
            outcome = decide(asked, whole, NOW, config)
            assert _told(outcome) == _told(decide(asked, without, NOW, config))
            if isinstance(outcome, Choice):
                assert _may_use(users, tenant, outcome.variant.row)
    outcome, other = choose(asked, whole, NOW, config), choose(asked, without, NOW, config)
    assert explain(asked, whole, NOW, config, outcome) == explain(asked, without, NOW, config, other)
    if isinstance(outcome, Choice) and isinstance(other, Choice):
        task, alone = whole.seen_in(asked), without.seen_in(asked)
        assert task is not None
        assert alone is not None
        copy = bind_copy(task, asked, outcome.variant, NOW)
        assert _told(copy) == _told(bind_copy(alone, asked, other.variant, NOW))
        assert copy is None or _may_use(users, tenant, copy.variant.row)


@given(variants(NAMES), statuses(NAMES), _queries, _users)
def test_choose_for_every_tenant_ignores_access(
    variants: list[tuple[Variant, Profile]],
    statuses: list[tuple[WorkerStatus, float]],
    asked: Query,
    users: dict[str, frozenset[str]],
) -> None:
    asked, config = msgspec.structs.replace(asked, tenant=EVERY_TENANT), PolicyConfig()
    whole, open_to_all = _state(variants, statuses, None, users), _state(variants, statuses, None, {})
    assert _told(choose(asked, whole, NOW, config)) == _told(choose(asked, open_to_all, NOW, config))


def _with_best_private() -> ClusterState:
    state = three()
    rows = list(state.tasks[TASK].variants)
    profiles = {v.name: v.profile for v in rows}
    state.register((TASK,), [v.row for v in rows], profiles, users={"best": frozenset({"acme"})})
    return state


def test_tenant_view_follows_worker_statuses() -> None:
    """The candidates of a class of tenants follow worker statuses as the candidates of the task do."""
    state = _with_best_private()
    asked = msgspec.structs.replace(query(min_accuracy=0.94, latency_ms=10_000), tenant="acme")
    before = choose(asked, state, NOW, PolicyConfig())
    assert isinstance(before, Choice)
    assert before.instance is None
    state.apply_status(status(instance(FAST), instance(BEST)), NOW)
    after = choose(asked, state, NOW, PolicyConfig())
    assert isinstance(after, Choice)
    assert after.instance is not None
    stranger = choose(msgspec.structs.replace(asked, tenant="globex"), state, NOW, PolicyConfig())
    assert isinstance(stranger, Refusal)


def test_access_changes_apply_at_once() -> None:
    state = _with_best_private()
    rows, task = [v.row for v in state.tasks[TASK].variants], state.tasks[TASK]
    profiles = {v.name: v.profile for v in task.variants}
    asked = msgspec.structs.replace(query(target="best", allow_late=True), tenant="globex")
    assert isinstance(choose(asked, state, NOW, PolicyConfig()), Refusal)
    state.register((TASK,), rows, profiles, users={"best": frozenset({"acme", "globex"})})
    assert isinstance(choose(asked, state, NOW, PolicyConfig()), Choice)
    state.register((TASK,), rows, profiles, users={})
    assert state.tasks[TASK].tenants is None
    assert isinstance(choose(msgspec.structs.replace(asked, tenant=None), state, NOW, PolicyConfig()), Choice)


def test_tenant_views_are_bounded() -> None:
    """Tenants without grants form one class; of the other classes, the last used are kept."""
    tenants = [f"t{n}" for n in range(VIEWS_A_TASK + 50)]
    rows = [registered("open.onnx-fp32.cpu"), *(registered(f"m{n}.onnx-fp32.cpu") for n in range(len(tenants)))]
    state = state_of(*rows)
    users = {f"m{n}": frozenset({tenant}) for n, tenant in enumerate(tenants)}
    state.register((TASK,), [r for r, _ in rows], {p.variant: p for _, p in rows}, users=users)
    task = state.tasks[TASK]
    strangers = {id(task.seen_by(f"invented-{n}")) for n in range(1000)}
    assert len(strangers) == 1
    for n, tenant in enumerate(tenants):
        seen = task.seen_by(tenant)
        assert seen is not None
        assert {v.architecture for v in seen.variants} == {"open", f"m{n}"}
    assert len(task.views) == VIEWS_A_TASK
