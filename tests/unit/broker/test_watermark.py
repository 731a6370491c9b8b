"""Tests of `Watermark`, against a model that is simple and slow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker.delivery.watermark import Watermark


class Model(RuleBasedStateMachine):
    """Records that are handed out with gaps, and finished in any order, twice, or without having been handed out."""

    @initialize(start=st.integers(0, 1000))
    def begin(self, start: int) -> None:
        self.mark = Watermark(start)
        self.out: set[int] = set()
        self.given_back: set[int] = set()
        self.after = start

    @rule(gaps=st.lists(st.integers(0, 3), min_size=1, max_size=8))
    def hand_out(self, gaps: list[int]) -> None:
        offsets: list[int] = []
        for gap in gaps:
            offsets.append(self.after + gap)
            self.after = offsets[-1] + 1
        self.mark.hand_out({offset: offset % 7 for offset in offsets})
        self.out.update(offsets)

    @rule(gap=st.integers(-3, 3))
    def pass_to(self, gap: int) -> None:
        assert self.mark.pass_to(self.after + gap) == (gap > 0)
        self.after += max(gap, 0)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.out)) if self.out else st.integers(0, 2000))
        assert self.mark.finish(offset) == (offset in self.out)
        self.out.discard(offset)
        assert not self.mark.finish(offset)

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.out)) if self.out else st.integers(0, 2000))
        assert self.mark.give_back(offset) == (offset in self.out)
        self.given_back |= self.out & {offset}
        self.out.discard(offset)

    @rule(offset=st.integers(0, 5000))
    def finish_any(self, offset: int) -> None:
        assert self.mark.finish(offset) == (offset in self.out)
        self.out.discard(offset)

    @invariant()
    def mark_is_the_lowest_open_offset(self) -> None:
        assert self.mark.mark == min(self.out | self.given_back, default=self.after)
        assert self.mark.in_flight == len(self.out)
        assert self.mark.bytes == sum(offset % 7 for offset in self.out)
        assert self.mark.next == self.after


TestWatermark = Model.TestCase


@given(order=st.permutations(range(50)))
def test_watermark_never_decreases(order: list[int]) -> None:
    mark = Watermark(0)
    mark.hand_out(dict.fromkeys(range(50), 1))
    seen: list[int] = []
    for offset in order:
        mark.finish(offset)
        seen.append(mark.mark)
    assert seen == sorted(seen)
    assert seen[-1] == 50


def test_watermark_refuses_offset_handed_out_twice() -> None:
    mark = Watermark(5)
    mark.hand_out({5: 1, 6: 1})
    with pytest.raises(ValueError, match="6 was handed out before"):
        mark.hand_out({6: 1})
