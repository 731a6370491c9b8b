"""Converts the lag of topics into backlogs of tasks and variants, in inputs. Pure.

A query holds one or more inputs. The number of inputs in waiting queries is estimated by the mean of recent queries.
"""

from collections.abc import Iterable, Mapping

import msgspec

from autoscaler.decide.snapshot import Backlog
from schemas.rows.catalog import Variant
from schemas.topics import LANES, offline_topic, offline_variant_topic, task_topic, variant_topic


class TopicBacklog(msgspec.Struct, frozen=True):
    """Waiting records of a topic."""

    records: int
    age_s: float | None
    """Age of the oldest in seconds; None if unknown."""


def with_lanes(waiting: Mapping[str, TopicBacklog], held: Mapping[str, int]) -> Mapping[str, TopicBacklog]:
    """Return the backlogs with the lag of lanes added to the offline topics of their tasks.

    Lanes mix the queries of all tasks. Their lag is divided in proportion to the queries of lanes that selectors hold,
    `held`.
    """
    lanes, total = waiting.get(LANES), sum(held.values())
    if lanes is None or not total:
        return waiting
    found = dict(waiting)
    for task, count in held.items():
        own, records = found.get(offline_topic(task)), round(lanes.records * count / total)
        if own is None or not own.records:
            found[offline_topic(task)] = TopicBacklog(records, lanes.age_s)
        else:
            age_s = None if own.age_s is None or lanes.age_s is None else max(own.age_s, lanes.age_s)
            found[offline_topic(task)] = TopicBacklog(own.records + records, age_s)
    return found


def backlogs_of(
    waiting: Mapping[str, TopicBacklog],
    tasks: Iterable[str],
    variants: Iterable[Variant],
    mean_inputs: Mapping[str, float],
) -> tuple[Backlog, ...]:
    """Return the backlogs of these tasks and variants.

    Args:
        waiting: waiting records, by topic.
        tasks: names of the tasks.
        variants: the variants of all tasks.
        mean_inputs: mean number of inputs in a query, by task; 1 if absent.
    """
    topics: dict[str, tuple[str, str | None, bool]] = {}
    for task in tasks:
        topics[task_topic(task)] = (task, None, False)
        topics[offline_topic(task)] = (task, None, True)
    for variant in variants:
        topics[variant_topic(variant.name)] = (variant.task, variant.name, False)
        topics[offline_variant_topic(variant.name)] = (variant.task, variant.name, True)
    return tuple(
        Backlog(
            task=task,
            variant=variant,
            offline=offline,
            inputs=found.records * mean_inputs.get(task, 1.0),
            age_s=found.age_s,
        )
        for topic, found in waiting.items()
        if topic in topics
        for task, variant, offline in (topics[topic],)
    )
