"""Which variants are worth trying as stages."""

import msgspec

from registry.composites.stage_records import unbeaten
from tests.store_rows import a_profile


def test_what_is_slower_is_tried_only_if_it_is_more_accurate() -> None:
    fast, beaten, best = a_profile("fast", 0.8, 0.001), a_profile("beaten", 0.8, 0.002), a_profile("best", 0.9, 0.003)
    assert unbeaten([best, beaten, fast]) == [fast, best]


def test_the_same_on_more_cores_is_none_of_them_unless_all_take_so_many() -> None:
    one, wide = a_profile("one", 0.8, 0.002), msgspec.structs.replace(a_profile("wide", 0.8, 0.001), threads=2)
    assert (unbeaten([one, wide]), unbeaten([wide]), unbeaten([])) == ([one], [wide], [])
