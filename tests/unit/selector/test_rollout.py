"""Tests of rollouts: the version that answers a query depends on share, needs and loaded instances."""

import pytest

from schemas.errors import Unsatisfiable
from schemas.query import Mode, Query
from schemas.rows.catalog import Architecture, Profile, Variant
from schemas.versions import Rollout, versions_of
from selector.admission.overload import LoadShedder
from selector.dispatch.explanation import explain
from selector.policy.choice import Choice, PolicyConfig, Refusal
from selector.policy.cluster_state import ClusterState
from selector.policy.late_binding import bind, bind_copy
from selector.policy.selection import choose
from tests.unit.selector.story import NOW, TASK, explained, instance, query, registered, status

CONFIG = PolicyConfig()
OLD, NEW, OTHER = "net.onnx-fp32.cpu", "net-v2.onnx-fp32.cpu", "rest.onnx-fp32.cpu"
QUERIES = 4000


def architecture(name: str, model: str = "", version: int = 1) -> Architecture:
    return Architecture(name=name, task=TASK, source="0" * 64, source_format="onnx", model=model, version=version)


ARCHITECTURES = {row.name: row for row in (architecture("net"), architecture("net-v2", "net", 2), architecture("rest"))}


def rollout(**changes: float | None) -> Rollout:
    return Rollout(**{"model": "net", "serving": 1, "candidate": 2, **changes})  # pyright: ignore[reportArgumentType]


def cluster(now: Rollout | None, *loaded: str, new_accuracy: float = 0.9, new_ms: float = 2.0) -> ClusterState:
    made = ClusterState()
    known = [
        registered(OLD, accuracy=0.9), registered(NEW, accuracy=new_accuracy, ms=new_ms),
        registered(OTHER, accuracy=0.99, ms=50),
    ]  # fmt: skip
    register(made, known, now)
    made.apply_status(status(*(instance(name) for name in loaded or (OLD, NEW, OTHER)), slots=8), NOW)
    return made


def register(where: ClusterState, known: list[tuple[Variant, Profile]], now: Rollout | None) -> None:
    rollouts = {now.model: now} if now is not None else {}
    variants, profiles = [v for v, _ in known], {p.variant: p for _, p in known}
    where.register([TASK], variants, profiles, versions=versions_of(ARCHITECTURES, rollouts))


def chosen(where: ClusterState, asked: Query, config: PolicyConfig = PolicyConfig(upgrades=False)) -> str:  # noqa: B008
    outcome = choose(asked, where, NOW, config)
    assert isinstance(outcome, Choice)
    return outcome.variant.name


def share_of_new(where: ClusterState, **needs: float | str) -> float:
    asked = (query(id=f"q-{number}", **needs) for number in range(QUERIES))  # pyright: ignore[reportArgumentType]
    return sum(chosen(where, one) == NEW for one in asked) / QUERIES


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("target", [None, "net"])
def test_canary_answers_its_share(share: float, target: str | None) -> None:
    where = cluster(rollout(share=share))
    seen = share_of_new(where, **({} if target is None else {"target": target}))
    assert seen == pytest.approx(share, abs=0.03)
    assert share in (seen, 0.05, 0.5), "none and all are exact"


ALL = (OLD, NEW, OTHER)
PREVIOUS: dict[str, float | None] = {"serving": 2, "previous": 1, "candidate": None}


@pytest.mark.parametrize(
    ("now", "loaded", "asked", "variant"),
    [
        pytest.param({"share": 1.0}, ALL, query(min_accuracy=0.8), OLD, id="canary is not accurate enough"),
        pytest.param({"share": 1.0}, ALL, query(latency_ms=30), OLD, id="canary is not fast enough"),
        pytest.param({"share": 1.0}, (OLD,), query(), OLD, id="canary is not loaded"),
        pytest.param({"share": 1.0}, (NEW,), query(), NEW, id="only the canary is loaded"),
        pytest.param({"share": 1.0}, ALL, query(min_accuracy=0.95), OTHER, id="other model by needs"),
        pytest.param({"share": 1.0}, ALL, query(target="rest"), OTHER, id="other model by name"),
        *(
            pytest.param(now, ALL, query(target=name), variant, id=f"{name} of {now}")
            for now in ({"share": 1.0}, {"share": 0.0}, None)
            for name, variant in (("net@1", OLD), ("net@2", NEW), ("net-v2", NEW), (NEW, NEW))
        ),
        pytest.param(None, ALL, query(target="net"), OLD, id="version outside the rollout"),
        pytest.param(None, (NEW, OTHER), query(), OTHER, id="only a version outside the rollout is loaded"),
        pytest.param(PREVIOUS, (OLD,), query(target="net"), OLD, id="previous until its successor serves, by name"),
        pytest.param(PREVIOUS, (OLD,), query(), OLD, id="previous until its successor serves"),
        pytest.param(PREVIOUS, ALL, query(), NEW, id="the successor serves"),
    ],
)
def test_rollout_decides_which_version_answers(
    now: dict[str, float | None] | None, loaded: tuple[str, ...], asked: Query, variant: str
) -> None:
    """The new version is less accurate, and slower."""
    where = cluster(None if now is None else rollout(**now), *loaded, new_accuracy=0.7, new_ms=40)
    assert chosen(where, asked) == variant


def test_version_without_share_answers_nothing() -> None:
    where = cluster(rollout(share=0.0), OLD, NEW, new_accuracy=0.95)
    assert {chosen(where, query(id=f"q-{n}"), CONFIG) for n in range(100)} == {OLD}, "not even as an upgrade"
    refused = choose(query(target="net@3"), where, NOW, CONFIG)
    assert isinstance(refused, Refusal)
    assert "net@3" in str(refused.error)


def test_rollback_applies_with_new_catalog() -> None:
    where = cluster(rollout(share=1.0))
    assert share_of_new(where) == 1.0
    register(where, [registered(name) for name in ALL], rollout(candidate=None))
    assert share_of_new(where) == 0.0
    assert {i.variant.name for w in where.workers.values() for i in w.instances.values()} == set(ALL)


def test_canary_draw_is_stable_and_grows_with_share() -> None:
    small, large = cluster(rollout(share=0.1)), cluster(rollout(share=0.3))
    ids = [f"id-{number}" for number in range(1000)]
    drawn = {one for one in ids if chosen(small, query(id=one)) == NEW}
    assert drawn == {one for one in ids if chosen(small, query(id=one)) == NEW}
    assert drawn < {one for one in ids if chosen(large, query(id=one)) == NEW}


def test_refusal_cache_separates_canary_queries() -> None:
    where, shedder = cluster(rollout(share=0.5), OLD), LoadShedder(CONFIG)
    where.apply_status(status(instance(OLD, queued=100_000), slots=8), NOW)
    where.apply_status(status(instance(NEW), worker="cpu-1"), NOW)
    asked = [query(id=f"q-{number}", latency_ms=100.0) for number in range(40)]
    drawn = {one.id for one in asked if isinstance(choose(one, where, NOW, CONFIG), Choice)}
    assert 0 < len(drawn) < len(asked)
    assert {one.id for one in asked if isinstance(shedder.decide(one, where, NOW), Choice)} == drawn


def test_rollback_gives_no_query_to_the_bad_version() -> None:
    now = rollout(serving=1, previous=None, candidate=None)
    outcome = choose(query(target="net", latency_ms=100), cluster(now, NEW), NOW, CONFIG)
    assert isinstance(outcome, Refusal)
    assert not isinstance(outcome.error, Unsatisfiable)
    assert outcome.wanted is not None
    assert outcome.wanted.name == OLD


def test_bind_draws_canary_for_offline_queries() -> None:
    where = cluster(rollout(share=0.3))
    names = [
        found.variant.name
        for number in range(1000)
        if isinstance(found := bind(query(id=f"q-{number}", mode=Mode.OFFLINE), where, NOW, CONFIG), Choice)
    ]
    assert names.count(NEW) / len(names) == pytest.approx(0.3, abs=0.05)
    assert chosen(where, query(id="q-1")) == bind(query(id="q-1", mode=Mode.OFFLINE), where, NOW, CONFIG).variant.name  # pyright: ignore


def test_explain_names_the_rollout() -> None:
    where = cluster(rollout(share=0.0), OLD, NEW)
    asked = query()
    told = explained(explain(asked, where, NOW, CONFIG, choose(asked, where, NOW, CONFIG)))
    verdicts = {row["variant"]: row["verdict"] for row in told["considered"]}  # pyright: ignore
    assert verdicts[NEW] == "is of a version that does not serve"
    for where, said in (
        (
            cluster(rollout(share=1.0), OLD, NEW),
            "net@2 is tried on a share of the queries, and this query is drawn by its id",
        ),
        (
            cluster(rollout(serving=2, previous=1, candidate=None), OLD),
            "net@1 answers until an instance of the serving version is loaded",
        ),
    ):
        told = explained(explain(asked, where, NOW, CONFIG, choose(asked, where, NOW, CONFIG)))
        assert told["reason"] == said


def test_bind_copy_sends_share_to_idle_shadow_only() -> None:
    where = cluster(rollout(shadow=0.25), OLD, NEW)
    task = where.tasks[TASK]
    old = task.serving[OLD].first().variant
    copies = [bind_copy(task, query(id=f"q-{number}"), old, NOW) for number in range(QUERIES)]
    assert sum(copy is not None for copy in copies) / QUERIES == pytest.approx(0.25, abs=0.03)
    assert {copy.variant.name for copy in copies if copy is not None} == {NEW}
    assert chosen(where, query(id="q-1")) == OLD, "a copy is not an answer"
    where.apply_status(status(instance(OLD), instance(NEW, unread=50), slots=8), NOW)
    assert [bind_copy(task, query(id=f"q-{number}"), old, NOW) for number in range(100)] == [None] * 100
    assert bind_copy(cluster(rollout(shadow=0.0)).tasks[TASK], query(), old, NOW) is None
    answers = cluster(rollout(share=1.0, shadow=1.0), OLD, NEW).tasks[TASK]
    assert bind_copy(answers, query(), answers.serving[NEW].first().variant, NOW) is None, "it is the new version's"
