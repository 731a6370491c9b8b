"""Tests of the choice of variants that may become stages."""

import msgspec

from registry.composites.stage_records import unbeaten
from tests.example_rows import a_profile


def test_unbeaten_omits_slower_variants_without_more_accuracy() -> None:
    fast, beaten, best = a_profile("fast", 0.8, 0.001), a_profile("beaten", 0.8, 0.002), a_profile("best", 0.9, 0.003)
    assert unbeaten([best, beaten, fast]) == [fast, best]


def test_unbeaten_considers_only_fewest_threads() -> None:
    one, wide = a_profile("one", 0.8, 0.002), msgspec.structs.replace(a_profile("wide", 0.8, 0.001), threads=2)
    assert (unbeaten([one, wide]), unbeaten([wide]), unbeaten([])) == ([one], [wide], [])
