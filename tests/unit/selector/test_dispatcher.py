"""Tests of `ForbiddenSampler`: the first forbidden records are kept, then one per interval."""

from selector.dispatch.dispatcher import EACH_S, MOST_AT_ONCE, ForbiddenSampler


def test_forbidden_sampler_keeps_part_of_flood() -> None:
    sampler = ForbiddenSampler(0.0)
    assert sum(sampler.take(1.0) for _ in range(10 * MOST_AT_ONCE)) == MOST_AT_ONCE
    day_s = 86_400
    assert sum(sampler.take(1.0 + second) for second in range(day_s)) <= day_s / EACH_S


def test_forbidden_sampler_saves_no_tokens_beyond_burst() -> None:
    sampler = ForbiddenSampler(0.0)
    assert sum(sampler.take(1e9) for _ in range(2 * MOST_AT_ONCE)) == MOST_AT_ONCE
