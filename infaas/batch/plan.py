"""What a job will take and which variant computes it, from profiles and prices: pure.

A job is computed by one variant, the cheapest that meets its needs in time, unless it says otherwise. So the rows of an
output are comparable, a job that goes on writes what it would have written, and the estimate is of what will run.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from infaas.batch.limits import JobLimits
from schemas.errors import OperatorError, Unsatisfiable
from schemas.hardware import CorePrice, slots_taken
from schemas.rows.catalog import Profile, Variant
from schemas.rows.placement import InstanceRow, WorkerRow
from schemas.status import SERVING
from selector.variants import PricedVariant

MOST_ROWS: Final = 512
"""Rows of a chunk at most."""
_CHUNK_BYTES: Final = 1 << 20
"""Bytes of a chunk at most, unless a row has more: what is large holds up what is online on its way."""
_CHUNK_S: Final = 0.05
"""Seconds of a slot that a chunk takes at most: an instance is given work for a fifth of a second ahead."""
_AHEAD_S: Final = 1.0
"""Seconds of work that are in flight at least."""
_LEAST_IN_FLIGHT: Final = 8
_MOST_IN_FLIGHT: Final = 64
_MOST_FLIGHT_BYTES: Final = 64 << 20


class BatchNeeds(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed of the answers of a job."""

    min_accuracy: float | None = None
    max_latency_ms: float | None = None
    """Milliseconds that the variant may take for a single row."""
    target: str | None = None
    """An architecture or a variant instead of any."""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A variant that may compute a job."""

    variant: str
    architecture: str
    accuracy: float
    max_batch: int
    row_s: float
    """Seconds of a slot that a row takes in full batches."""
    alone_s: float
    """Seconds that a row takes alone."""
    row_cost: float
    """USD."""
    slots: int
    """Batches at once on the workers that could compute it; 0: there is none."""
    load_s: float = 0.0
    """Seconds until it serves; 0: it does."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a job is computed, and what it is expected to take."""

    variant: str
    accuracy: float
    chunk_rows: int
    in_flight: int
    """Chunks."""
    seconds: float | None
    """None: nobody knows how many rows there are."""
    cost: float | None
    """USD."""
    row_cost: float
    """USD."""


def find_offers(
    task: str, variants: Iterable[Variant], profiles: dict[str, Profile], workers: Sequence[WorkerRow],
    instances: Iterable[InstanceRow],
) -> list[Offer]:  # fmt: skip
    """The variants of a task, with what they take on the workers that there are."""
    serving = {row.variant for row in instances if row.state in SERVING}
    offers: list[Offer] = []
    for row in variants:
        if row.task != task or row.name not in profiles:
            continue
        threads = profiles[row.name].threads
        able = [
            w
            for w in workers
            if w.alive and w.hardware == row.hardware and row.runtime in w.runtimes and _at_once(w, threads)
        ]
        priced = PricedVariant(row, profiles[row.name], min(map(_core_price, able), default=None))
        offers.append(
            Offer(
                variant=row.name,
                architecture=row.architecture,
                accuracy=priced.accuracy,
                max_batch=row.max_batch,
                row_s=priced.model.input_s(),
                alone_s=priced.model.promised_s(1),
                row_cost=priced.cost(1, offline=True) / 1000,
                slots=sum(_at_once(w, threads) for w in able),
                load_s=0.0 if row.name in serving else priced.load_s,
            )
        )
    return offers


def _core_price(worker: WorkerRow) -> CorePrice:
    return CorePrice.of(worker.hardware, worker.slots, worker.threads, worker.price_per_hour)


def _at_once(worker: WorkerRow, threads: int) -> int:
    """Batches of so many threads that a worker computes at once, at most; of one that is too wide for it, none."""
    width = slots_taken(worker.hardware, threads, worker.threads)
    return worker.slots if width == 1 else int(width <= worker.slots)


def make_plan(
    rows: int | None, row_bytes: float, offers: Sequence[Offer], needs: BatchNeeds, limits: JobLimits
) -> Plan:
    """Choose the cheapest variant that meets the needs within the limits.

    Raises:
        Unsatisfiable: no variant meets the needs.
        OperatorError: those that do would take too long or cost too much; the message has the estimate.
    """
    able = [offer for offer in offers if _meets(offer, needs)]
    if not able:
        raise Unsatisfiable(_unmet(offers, needs))
    running = sorted((offer for offer in able if offer.slots), key=lambda offer: (offer.row_cost, offer.variant))
    if not running:
        raise OperatorError(f"no worker runs that could compute {able[0].variant}; `infaas status` shows those that do")
    plans = [_plan(rows, row_bytes, offer) for offer in running]
    within = [plan for plan in plans if _is_within(plan, limits)]
    if not within:
        raise OperatorError(_too_much(plans, limits))
    return within[0]


def _meets(offer: Offer, needs: BatchNeeds) -> bool:
    return (
        (needs.target is None or needs.target in (offer.variant, offer.architecture))
        and (needs.min_accuracy is None or offer.accuracy >= needs.min_accuracy)
        and (needs.max_latency_ms is None or offer.alone_s * 1e3 <= needs.max_latency_ms)
    )


def _plan(rows: int | None, row_bytes: float, offer: Offer) -> Plan:
    chunk_rows = rows_of_chunk(offer, row_bytes)
    rate = offer.slots / offer.row_s
    by_bytes = int(_MOST_FLIGHT_BYTES / max(chunk_rows * row_bytes, 1))
    wanted = max(math.ceil(_AHEAD_S * rate / chunk_rows), _LEAST_IN_FLIGHT)
    return Plan(
        variant=offer.variant,
        accuracy=offer.accuracy,
        chunk_rows=chunk_rows,
        in_flight=max(1, min(wanted, _MOST_IN_FLIGHT, by_bytes)),
        seconds=None if rows is None else offer.load_s + rows / rate,
        cost=None if rows is None else rows * offer.row_cost,
        row_cost=offer.row_cost,
    )


def rows_of_chunk(offer: Offer, row_bytes: float) -> int:
    """Rows to ask for in one query: full batches, few enough that several queries are given ahead."""
    by_time = _CHUNK_S / max(offer.row_s, 1e-9)
    most = int(min(by_time, _CHUNK_BYTES / max(row_bytes, 1), MOST_ROWS))
    if most < offer.max_batch:
        return max(most, 1)
    return most // offer.max_batch * offer.max_batch


def _is_within(plan: Plan, limits: JobLimits) -> bool:
    in_time = limits.deadline_s is None or plan.seconds is None or plan.seconds <= limits.deadline_s
    return in_time and (limits.max_cost is None or plan.cost is None or plan.cost <= limits.max_cost)


def _unmet(offers: Sequence[Offer], needs: BatchNeeds) -> str:
    asked = ", ".join(f"{name} {value}" for name, value in msgspec.structs.asdict(needs).items() if value is not None)
    best = max(offers, key=lambda offer: offer.accuracy, default=None)
    if best is None:
        return "nothing is registered for this task; `infaas register` registers models"
    return f"no variant meets {asked}; the most accurate is {best.variant} with {best.accuracy:.4g}"


def _too_much(plans: Sequence[Plan], limits: JobLimits) -> str:
    def told(plan: Plan) -> str:
        return f"{plan.variant} about {plan.seconds or 0:.3g} s and {plan.cost or 0:.4g} USD"

    fastest = min(plans, key=lambda plan: plan.seconds or 0)
    asked = [f"{limits.deadline_s:g} s"] if limits.deadline_s is not None else []
    asked += [f"{limits.max_cost:g} USD"] if limits.max_cost is not None else []
    others = "" if fastest.variant == plans[0].variant else f", the fastest, {told(fastest)}"
    return f"the job cannot be done within {' and '.join(asked)}: the cheapest takes {told(plans[0])}{others}"
