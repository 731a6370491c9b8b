"""Figures of a simulation."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from simulator.outcomes import NO_VARIANT, REASONS, QueryOutcome
from simulator.simulation import SimulationResult


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of the queries that arrived after the warm-up, and of the fleet from then to the end of the trace.

    Latencies are milliseconds from the arrival to the client's result, of online queries that were computed.
    """

    seconds: float
    """Duration that the figures cover."""
    queries: int
    offline: int
    """Offline queries among them."""
    answered: int
    """Queries that were answered in time; those without a deadline always are."""
    late: int
    refused: int
    expired: int
    failed: int
    waiting: int
    attainment: float
    """Share of the online queries that were answered in time."""
    goodput_per_s: float
    """Online queries answered in time, by second."""
    p50_ms: float
    p90_ms: float
    p99_ms: float
    accuracy: float
    """Mean accuracy of the variants that answered online queries in time, weighted by inputs."""
    charged_usd: float
    """Sum of the prices of the answered queries."""
    usd: float
    """Price of the workers."""
    usd_per_hour: float
    usd_per_1000: float
    """Price of the workers by 1000 queries answered in time, offline ones included."""
    utilisation: dict[str, float]
    """Mean share of the slots that computed, by hardware."""
    workers: dict[str, float]
    """Mean number of workers, by hardware."""
    changes: dict[str, int]
    """Changes of the scale by action."""
    refusals: dict[str, int]
    """Refused and expired queries by reason."""
    prediction_error: float
    """Median relative error of the predicted time from a selector's choice to the result; NaN without predictions."""

    @property
    def violations(self) -> float:
        """Share of the online queries that were not answered in time."""
        return 1.0 - self.attainment


def summarize(result: SimulationResult) -> Summary:
    """Return the figures of a simulation."""
    scenario, columns = result.scenario, result.queries
    trace, from_s = scenario.trace, scenario.warm_up_s
    counted = trace.time_s >= from_s
    is_online, outcome = trace.is_online, columns.outcome
    online = counted & is_online
    in_time = counted & (outcome == QueryOutcome.ANSWERED)
    computed = online & ((outcome == QueryOutcome.ANSWERED) | (outcome == QueryOutcome.LATE))
    latency_ms = (columns.ended_s - trace.time_s)[computed] * 1e3
    seconds = max(trace.duration_s - from_s, 1e-9)
    p50, p90, p99 = _percentiles(latency_ms)
    samples = [sample for sample in result.samples if sample.at_s >= from_s]
    attained = int((in_time & online).sum())
    answered = int(in_time.sum())
    return Summary(
        seconds=seconds,
        queries=int(counted.sum()),
        offline=int((counted & ~is_online).sum()),
        answered=answered,
        late=_count(outcome[counted], QueryOutcome.LATE),
        refused=_count(outcome[counted], QueryOutcome.REFUSED),
        expired=_count(outcome[counted], QueryOutcome.EXPIRED),
        failed=_count(outcome[counted], QueryOutcome.FAILED),
        waiting=_count(outcome[counted], QueryOutcome.WAITING),
        attainment=attained / max(int(online.sum()), 1),
        goodput_per_s=attained / seconds,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        accuracy=_accuracy(result, in_time & online),
        charged_usd=float(columns.cost[in_time].sum()) / 1000,
        usd=result.usd,
        usd_per_hour=result.usd / seconds * 3600,
        usd_per_1000=result.usd / max(answered, 1) * 1000,
        utilisation=_means([sample.busy for sample in samples], present_only=True),
        workers=_means([sample.workers for sample in samples]),
        changes=_tally([change.action for change in result.changes if change.at_s >= from_s]),
        refusals=_tally([REASONS[reason] for reason in columns.reason[counted].tolist() if reason]),
        prediction_error=_prediction_error(result, computed),
    )


def _count(outcomes: NDArray[np.uint8], wanted: QueryOutcome) -> int:
    return int((outcomes == wanted).sum())


def _percentiles(latency_ms: NDArray[np.float64]) -> tuple[float, float, float]:
    if not len(latency_ms):
        return np.nan, np.nan, np.nan
    p50, p90, p99 = np.percentile(latency_ms, (50, 90, 99)).tolist()
    return p50, p90, p99


def _accuracy(result: SimulationResult, rows: NDArray[np.bool_]) -> float:
    trace, variants = result.scenario.trace, result.scenario.catalogue.variants
    chosen = result.queries.variant[rows]
    if not len(chosen):
        return np.nan
    accuracies = np.array([variant.accuracy for variant in variants])
    return float(np.average(accuracies[chosen], weights=trace.inputs[rows]))


def _prediction_error(result: SimulationResult, computed: NDArray[np.bool_]) -> float:
    columns = result.queries
    rows = computed & ~np.isnan(columns.predicted_s) & (columns.variant != NO_VARIANT)
    if not rows.any():
        return np.nan
    took_s = (columns.ended_s - columns.chosen_s)[rows]
    return float(np.median(np.abs(columns.predicted_s[rows] - took_s) / took_s))


def _means(samples: list[dict[str, float]] | list[dict[str, int]], *, present_only: bool = False) -> dict[str, float]:
    """Return the mean of each key; an absent one counts as 0, or not at all."""
    found: dict[str, float] = {}
    for key in sorted({key for sample in samples for key in sample}):
        values = [sample[key] for sample in samples if key in sample]
        found[key] = sum(values) / (len(values) if present_only else len(samples))
    return found


def _tally(names: list[str]) -> dict[str, int]:
    return {name: names.count(name) for name in sorted(set(names))}
