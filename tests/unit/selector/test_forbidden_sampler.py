"""Of what is forbidden some is kept at once, and one more each so often."""

from selector.forbidden_sampler import EACH_S, MOST_AT_ONCE, ForbiddenSampler


def test_a_flood_is_kept_in_part() -> None:
    sampler = ForbiddenSampler(0.0)
    assert sum(sampler.take(1.0) for _ in range(10 * MOST_AT_ONCE)) == MOST_AT_ONCE
    day_s = 86_400
    assert sum(sampler.take(1.0 + second) for second in range(day_s)) <= day_s / EACH_S


def test_a_quiet_time_makes_room_for_no_more_than_at_first() -> None:
    sampler = ForbiddenSampler(0.0)
    assert sum(sampler.take(1e9) for _ in range(2 * MOST_AT_ONCE)) == MOST_AT_ONCE
