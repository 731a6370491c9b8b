"""Choice of a batch job's variant, and estimates of its time and cost, from profiles and prices. Pure.

A job is computed by one variant, unless its options say otherwise: the cheapest that meets its needs in time. So the
rows of an output are comparable, a resumed job writes the same output as an uninterrupted one, and the estimate holds
for the variant that runs.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from infaas.batch.limits import BatchLimits
from schemas.errors import OperatorError, Unsatisfiable
from schemas.generation_model import GenerationModel
from schemas.hardware import CorePrice, slots_taken
from schemas.rows.catalog import Profile, Variant
from schemas.rows.cluster import InstanceRow, WorkerRow
from schemas.status import SERVING
from selector.policy.variants import PricedVariant

MOST_ROWS: Final = 512
"""Maximum number of rows of a chunk."""
_CHUNK_BYTES: Final = 1 << 20
"""Maximum size of a chunk in bytes, unless one row is larger: large records delay online queries."""
_CHUNK_S: Final = 0.05
"""Maximum slot time of a chunk, in seconds; several chunks fit in the 0.2 s of work given to an instance ahead."""
_AHEAD_S: Final = 1.0
"""Minimum amount of work in flight, in seconds."""
_LEAST_IN_FLIGHT: Final = 8
_MOST_IN_FLIGHT: Final = 64
_MOST_FLIGHT_BYTES: Final = 64 << 20


class BatchNeeds(msgspec.Struct, frozen=True, kw_only=True):
    """Needs of a batch job."""

    min_accuracy: float | None = None
    max_latency_ms: float | None = None
    """Maximum latency of the variant for a single row, in milliseconds."""
    max_tokens: int | None = None
    """Maximum tokens of the answer to a row of a generative task."""
    target: str | None = None
    """Architecture or variant that must compute the batch job; None: any."""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A variant that may compute a batch job, with its speed and price."""

    variant: str
    architecture: str
    accuracy: float
    max_batch: int
    row_s: float
    """Slot time per row in full batches, in seconds."""
    alone_s: float
    """Latency of a single row, in seconds."""
    row_cost: float
    """USD per row."""
    slots: int
    """Number of batches that suitable workers compute at once; 0: no worker is suitable."""
    load_s: float = 0.0
    """Load time in seconds; 0 if an instance serves already."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Variant, chunk size and estimates of a batch job."""

    variant: str
    accuracy: float
    chunk_rows: int
    in_flight: int
    """Number of chunks."""
    seconds: float | None
    """Estimated duration; None if the number of rows is unknown."""
    cost: float | None
    """Estimated cost in USD; None if the number of rows is unknown."""
    row_cost: float
    """USD per row."""


def find_offers(
    task: str, variants: Iterable[Variant], profiles: dict[str, Profile], workers: Sequence[WorkerRow],
    instances: Iterable[InstanceRow], *, max_tokens: int | None = None,
) -> list[Offer]:  # fmt: skip
    """Return the variants of a task with their speed and price on the current workers.

    A row of a generative task is a typical answer, or one of `max_tokens` if that is shorter.
    """
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
        tokens, share = _length(priced.generation, max_tokens)
        offers.append(
            Offer(
                variant=row.name,
                architecture=row.architecture,
                accuracy=priced.accuracy,
                max_batch=row.max_batch,
                row_s=priced.model.input_s() * share,
                alone_s=priced.model.promised_s(1) * share,
                row_cost=priced.cost(1, offline=True) / 1000 * tokens,
                slots=sum(_at_once(w, threads) for w in able),
                load_s=0.0 if row.name in serving else priced.load_s,
            )
        )
    return offers


def _length(generation: GenerationModel | None, max_tokens: int | None) -> tuple[int, float]:
    """Return the tokens that a row is priced by, and its time as a share of that of a typical row."""
    if generation is None:
        return 1, 1.0
    prompt, typical = generation.profile.prompt_tokens, generation.profile.answer_tokens
    tokens = typical if max_tokens is None else min(typical, max_tokens)
    short_s, whole_s = (generation.answer_s(prompt, each, generation.sequences) for each in (tokens, typical))
    return tokens, short_s / whole_s if whole_s else 1.0


def _core_price(worker: WorkerRow) -> CorePrice:
    return CorePrice.of(worker.hardware, worker.slots, worker.threads, worker.price_per_hour)


def _at_once(worker: WorkerRow, threads: int) -> int:
    """Return the maximum number of batches that a worker computes at once, each on `threads` threads; 0: none fits."""
    width = slots_taken(worker.hardware, threads, worker.threads)
    return worker.slots if width == 1 else int(width <= worker.slots)


def make_plan(
    rows: int | None, row_bytes: float, offers: Sequence[Offer], needs: BatchNeeds, limits: BatchLimits
) -> Plan:
    """Choose the cheapest variant that meets the needs within the limits.

    Raises:
        Unsatisfiable: no variant meets the needs.
        OperatorError: no worker can compute the variants that do, or all exceed the limits; the message has the
            estimate.
    """
    able = [offer for offer in offers if _meets(offer, needs)]
    if not able:
        raise Unsatisfiable(_unmet(offers, needs))
    running = sorted((offer for offer in able if offer.slots), key=lambda offer: (offer.row_cost, offer.variant))
    if not running:
        raise OperatorError(
            f"no worker runs that could compute {able[0].variant}; `infaas status` shows the running workers"
        )
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
    """Return the number of rows per query: full batches, within `_CHUNK_S` and `_CHUNK_BYTES`."""
    by_time = _CHUNK_S / max(offer.row_s, 1e-9)
    most = int(min(by_time, _CHUNK_BYTES / max(row_bytes, 1), MOST_ROWS))
    if most < offer.max_batch:
        return max(most, 1)
    return most // offer.max_batch * offer.max_batch


def _is_within(plan: Plan, limits: BatchLimits) -> bool:
    in_time = limits.deadline_s is None or plan.seconds is None or plan.seconds <= limits.deadline_s
    return in_time and (limits.max_cost is None or plan.cost is None or plan.cost <= limits.max_cost)


def _unmet(offers: Sequence[Offer], needs: BatchNeeds) -> str:
    asked = ", ".join(f"{name} {value}" for name, value in msgspec.structs.asdict(needs).items() if value is not None)
    best = max(offers, key=lambda offer: offer.accuracy, default=None)
    if best is None:
        return "nothing is registered for this task; `infaas register` registers models"
    return f"no variant meets {asked}; the most accurate is {best.variant} with {best.accuracy:.4g}"


def _too_much(plans: Sequence[Plan], limits: BatchLimits) -> str:
    def described(plan: Plan) -> str:
        return f"{plan.variant} about {plan.seconds or 0:.3g} s and {plan.cost or 0:.4g} USD"

    fastest = min(plans, key=lambda plan: plan.seconds or 0)
    asked = [f"{limits.deadline_s:g} s"] if limits.deadline_s is not None else []
    asked += [f"{limits.max_cost:g} USD"] if limits.max_cost is not None else []
    others = "" if fastest.variant == plans[0].variant else f", the fastest, {described(fastest)}"
    return (
        f"the batch job cannot be done within {' and '.join(asked)}: the cheapest takes {described(plans[0])}{others}"
    )
