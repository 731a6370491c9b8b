"""Builders of small cluster states for the selector's tests: catalogs, queries and worker statuses."""

import msgspec

from schemas.latency import BatchLatency
from schemas.query import Mode, Needs, Query
from schemas.rows.catalog import AccuracySource, Profile, Variant, VariantState
from schemas.status import InstanceState, InstanceStatus, PartitionStatus, WorkerStatus
from selector.policy.choice import Choice, PolicyConfig, Refusal
from selector.policy.cluster_state import ClusterState
from selector.policy.selection import choose

NOW = 1_700_000_000.0
TASK = "digits"
NO_UPGRADES = PolicyConfig(upgrades=False)


def variant(name: str, *, task: str = TASK, max_batch: int = 8, hardware: str = "cpu", partitions: int = 4) -> Variant:
    return Variant(
        name=name,
        architecture=name.partition(".")[0],
        task=task,
        runtime="onnx",
        precision="fp32",
        hardware=hardware,
        max_batch=max_batch,
        artifact="0" * 64,
        state=VariantState.READY,
        partitions=partitions,
    )


def profile(
    name: str, *, ms: float = 2.0, accuracy: float = 0.9, load_s: float = 1.0, memory: int = 1000, max_batch: int = 8
) -> Profile:
    """Return a profile in which a batch takes `ms` for one input and a quarter of that for each further one."""
    sizes = [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= max_batch]
    latency = tuple(BatchLatency(b, ms / 1e3 * (0.75 + b / 4), ms / 500 * (0.75 + b / 4)) for b in sizes)
    return Profile(
        variant=name,
        device="test",
        threads=1,
        load_s=load_s,
        memory_bytes=memory,
        accuracy=accuracy,
        accuracy_source=AccuracySource.MEASURED,
        samples=100,
        latency=latency,
        intercept_s=ms * 0.75e-3,
        slope_s=ms * 0.25e-3,
        fit_error=0.0,
    )


def instance(
    name: str,
    *,
    state: InstanceState = InstanceState.ACTIVE,
    partitions: tuple[int, ...] = (0, 1, 2, 3),
    unread: int = 0,
    read_offline: int = 0,
    unread_offline: int = 0,
    reads_offline: bool = True,
    queued: int = 0,
    slowdown: float = 1.0,
    correction: float = 1.0,
    max_batch: int = 8,
    parallel: int = 1,
) -> InstanceStatus:
    """Return a status with `unread` queries in each partition; an earlier version has no offline partitions."""
    return InstanceStatus(
        variant=name,
        state=state,
        partitions=tuple(PartitionStatus(p, 100, 100 + unread) for p in partitions),
        offline_partitions=tuple(
            PartitionStatus(p, read_offline, read_offline + unread_offline) for p in partitions if reads_offline
        ),
        queued=queued,
        queued_inputs=queued,
        slowdown=slowdown,
        correction=correction,
        max_batch=max_batch,
        parallel=parallel,
    )


def status(
    *instances: InstanceStatus,
    worker: str = "cpu-0",
    hardware: str = "cpu",
    epoch: int = 1,
    at: float = NOW,
    slots: int = 2,
    price: float = 0.096,
    backlog_s: float = 0.0,
    backlogs_s: tuple[float, ...] | None = None,
    memory: int = 1 << 30,
    leaving: bool = False,
) -> WorkerStatus:
    return WorkerStatus(
        worker=worker,
        hardware=hardware,
        epoch=epoch,
        at_ms=at * 1000,
        slots=slots,
        price_per_hour=price,
        slot_backlogs_s=(backlog_s / slots,) * slots if backlogs_s is None else backlogs_s,
        memory_used=0,
        memory_total=memory,
        instances=instances,
        leaving=leaving,
    )


def query(
    *,
    id: str = "q-1",  # noqa: A002 - the name in the protocol
    task: str = TASK,
    batch: int = 1,
    sent: float = NOW,
    deadline_ms: float | None = None,
    latency_ms: float | None = None,
    min_accuracy: float | None = None,
    max_cost: float | None = None,
    mode: Mode = Mode.ONLINE,
    target: str | None = None,
    allow_late: bool = False,
) -> Query:
    if latency_ms is not None:
        deadline_ms = sent * 1000 + latency_ms
    return Query(
        id=id,
        task=task,
        reply_to="replies",
        sent_ms=sent * 1000,
        deadline_ms=deadline_ms,
        batch=batch,
        needs=Needs(
            latency_ms=latency_ms,
            min_accuracy=min_accuracy,
            max_cost=max_cost,
            mode=mode,
            target=target,
            allow_late=allow_late,
        ),
    )


def state_of(*variants: tuple[Variant, Profile], tasks: tuple[str, ...] = (TASK,)) -> ClusterState:
    made = ClusterState()
    made.register(tasks, [v for v, _ in variants], {p.variant: p for _, p in variants})
    return made


def registered(
    name: str,
    *,
    ms: float = 2.0,
    accuracy: float = 0.9,
    load_s: float = 1.0,
    memory: int = 1000,
    hardware: str = "cpu",
    max_batch: int = 8,
) -> tuple[Variant, Profile]:
    return (
        variant(name, hardware=hardware, max_batch=max_batch),
        profile(name, ms=ms, accuracy=accuracy, load_s=load_s, memory=memory, max_batch=max_batch),
    )


FAST, GOOD, BEST = "fast.onnx-fp32.cpu", "good.onnx-fp32.cpu", "best.onnx-fp32.cpu"


def three() -> ClusterState:
    """Return a state of three variants, each dearer and more accurate than the last; two are loaded and idle."""
    made = state_of(
        registered(FAST, ms=1, accuracy=0.8),
        registered(GOOD, ms=4, accuracy=0.9),
        registered(BEST, ms=16, accuracy=0.95, load_s=0.5),
    )
    made.apply_status(status(instance(FAST), instance(GOOD)), NOW)
    return made


def explained(raw: bytes) -> dict[str, object]:
    return msgspec.json.decode(raw, type=dict[str, object])


def chosen(asked: Query, where: ClusterState, *, now: float = NOW, config: PolicyConfig = NO_UPGRADES) -> Choice:
    outcome = choose(asked, where, now, config)
    assert isinstance(outcome, Choice), outcome.error
    return outcome


def refused(asked: Query, where: ClusterState, *, now: float = NOW) -> Refusal:
    outcome = choose(asked, where, now, NO_UPGRADES)
    assert isinstance(outcome, Refusal), outcome
    return outcome


def send(
    where: ClusterState,
    choice: Choice,
    count: int = 1,
    *,
    now: float = NOW,
    due_s: float = NOW,
    offline: bool = False,
) -> None:
    for _ in range(count):
        if offline and choice.instance is not None:
            where.sent_offline(choice.instance, choice.partition, 1, now)
        else:
            where.sent(choice.instance, choice.partition, 1, now, due_s)
