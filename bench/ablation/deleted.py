"""Mechanisms that an ablation has shown to be worth nothing, and rules that were tried in place of present ones."""

from typing import Final, NamedTuple


class DeletedMechanism(NamedTuple):
    """A mechanism that is gone."""

    name: str
    lines: int
    """Lines of the product that its deletion saved."""
    figures: str
    """Largest differences without it when it was deleted, in the words of the page."""


DELETED: Final = (
    DeletedMechanism("sooner end of a silent worker that was sent queries", 3, "p99 -0.8 ±0.4 %"),
    DeletedMechanism("no upgrades to overloaded and interfered instances", 4, "none of 0.5 %"),
    DeletedMechanism("shorter way back of a reply stream", 22, "p99 +1.2 ±0.2 % and -1.3 ±2.0 %"),
    DeletedMechanism("greedy: solved until stable", 21, "none, with the solver or without it"),
    DeletedMechanism("a tenth cheaper before an exchange", 3, "none"),
    DeletedMechanism("best variants after demanded ones", 15, "violations +0.8 ±0.9 pp, p99 +2 ±15 %"),
    DeletedMechanism(
        "upgrades: bursts count at once",
        25,
        "p99 +1.1 ±1.0 %; *two classes in overload* of [where it loses](losses.md) +0.6 ±1.0 pp",
    ),
    DeletedMechanism("concurrency limit: only if answers queued", 10, "violations -0.2 ±0.4 pp, p99 -1.3 ±2.2 %"),
    DeletedMechanism("eviction for two loads ahead only", 10, "violations -0.3 ±0.5 pp, p99 -6.4 ±9.1 %"),
    DeletedMechanism("instances held for an offline backlog", 14, "none, not even after a peak of online load"),
    DeletedMechanism("same question: two for an answer without refusals", 4, "violations +0.9 ±1.1 pp, p99 +2 ±3 %"),
    DeletedMechanism("forecast: season", 68, "cost -4.7 ±3.7 %, violations below +1 pp"),
    DeletedMechanism("same question: probes", 6, "p99 -2.5 ±1.0 %"),
    DeletedMechanism("price of a start", 10, "none; half of it: cost -5.7 and +13.4 % of single seeds"),
)

KEPT_FOR: Final = (
    (
        "upgrades: their limits",
        "No ablation workload shows them, but the kept cases of [where it loses](losses.md) do: without the limit of "
        "slots, 37.5 % of *two classes in overload* are violated instead of 36.2 %, and 0.55 % of *two selectors of "
        "one worker* instead of none; with the free CPU time as the only limit, 38.3 % and 2.3 %. Simulated machines "
        "have no CPU time besides that of slots.",
    ),
    (
        "sends of other selectors in acknowledgements",
        "Without it 40 selectors of 100 workers at 90 % load ([many selectors](selectors.md)) violate 3.3 % instead of "
        "0.4 %, and p99 of 8 selectors is 81 ms instead of 58 ms.",
    ),
    (
        "half of the cheapest variant's queue left to others",
        "On an Inferentia and a T4, 4.9 % of 300 queries a second are violated without it, and 3.4 % with it "
        "([selection](explanation/selection.md#rejected)).",
    ),
    ("queue slowdown", "It covers decoding and encoding, which simulated workers do without."),
    (
        "drain of workers in use",
        "The fleets here are small: a diurnal load of ten workers ([systems](systems.md)) costs 4 % more without it.",
    ),
    (
        "no eviction before some idle time",
        "Evicting for a demand by the cost of a miss alone, as for load, refuses 23 ±7 points more of the queries for "
        "16 models by name.",
    ),
    (
        "greedy: prices of full pools raised in rounds",
        "Only the heuristic on a full pool needs it: bursts on three workers have 0.8 to 2.7 points more violations.",
    ),
    (
        "measured rate of a slot",
        "Without it the median error of predictions exceeds a third at four slots (`tests/unit/agreement`).",
    ),
    (
        "even shares of free slots",
        "Simulated online queries arrive one by one. Of eight queries of ResNet-50 that a fetch brings to four free "
        "slots, each takes 83 ms in batches of two, and 315 ms in one batch of eight.",
    ),
    (
        "price of a load, price of accuracy",
        "No workload shows them, neither a low load nor many models by name. They are terms of INFaaS's objective, and "
        "of the accuracy that users ask for.",
    ),
    (
        "upgrades: to nearly idle instances only",
        "Without it a tenant within its share loses 16 % of its queries at the begin of another one's flood "
        "(`tests/unit/selector/test_overload.py`).",
    ),
)
"""Mechanisms without a figure that justifies them above, and the reason why they stay."""
