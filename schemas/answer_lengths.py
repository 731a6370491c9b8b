"""Lengths of generative answers in tokens, learned from finished ones: counts by bucket, and their distribution. Pure.

Workers count answers and publish the counts with their status; readers add the counts of several instances, and compare
them with the profile's typical answer. Counts are whole numbers, so sums can be updated by differences.

An answer that `max_tokens`, its deadline or its client has cut would have been longer. So ended and cut answers are
counted apart, and quantiles are those of the product-limit estimator (Kaplan and Meier, 1958): of all answers that have
reached a bucket, cut ones included, the share that ended there.
"""

from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

import msgspec

BUCKETS: Final = 64
"""Lengths below 8 tokens have buckets of their own; longer ones four an octave, up to about 200,000 tokens."""
_EXACT: Final = 8
_WINDOW: Final = 256
"""Answers after which the weight of one has fallen to a third."""
_PRIOR: Final = 2.0
"""Weight, in answers, of the profile's typical answer. Above 1 % of the window it would decide the p99 for ever."""
_OTHERS: Final = 8.0
"""Greatest weight, in answers, of those of the task's other variants."""


class LengthCount(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Answers of one length, older ones counted less."""

    bucket: int
    ended: int
    """Answers that ended at this length."""
    cut: int
    """Answers that were cut at this length, and would have been longer."""


class AnswerLengths(msgspec.Struct, frozen=True, gc=False):
    """Distribution of the lengths of answers, in tokens."""

    median: int
    """Median of answers that nothing cuts."""
    p99: int
    """Their 99th percentile; the longest one seen if most longer ones were cut."""
    mean: float
    """Mean of answers as they were made, cut ones included: it measures work."""
    answers: int = 0
    """Answers from which it was learned; 0: it is the profile's."""

    def expected(self, max_tokens: int | None, *, p99: bool = False) -> int:
        """Return the median of the tokens of an answer, or with `p99` their 99th percentile; at most `max_tokens`."""
        tokens = self.p99 if p99 else self.median
        return tokens if max_tokens is None else max(min(tokens, max_tokens), 1)


class LengthCounts:
    """Sum of the counts of instances."""

    __slots__ = ("answers", "cut", "ended")

    def __init__(self) -> None:
        self.ended = [0] * BUCKETS
        self.cut = [0] * BUCKETS
        self.answers = 0

    def add(self, counts: Iterable[LengthCount], sign: int = 1) -> None:
        """Add the counts of one instance, or with `sign` -1 remove them. Unknown buckets are ignored."""
        for one in counts:
            if 0 <= one.bucket < BUCKETS:
                self.ended[one.bucket] += sign * one.ended
                self.cut[one.bucket] += sign * one.cut
                self.answers += sign * (one.ended + one.cut)

    def lengths(self, typical: int, task: "LengthCounts | None" = None) -> AnswerLengths:
        """Return the distribution of these answers, beside the typical one of the profile.

        Args:
            typical: tokens of the profile's typical answer.
            task: counts of all variants of the task, these included; other variants stand in until there are enough.
        """
        answers = self.answers if task is None else task.answers
        if not answers:
            return AnswerLengths(typical, typical, float(typical))
        ended, cut = [float(n) for n in self.ended], [float(n) for n in self.cut]
        if task is not None and (others := task.answers - self.answers):
            weight = min(_OTHERS / others, 1.0)
            for bucket in range(BUCKETS):
                ended[bucket] += weight * (task.ended[bucket] - self.ended[bucket])
                cut[bucket] += weight * (task.cut[bucket] - self.cut[bucket])
        ended[bucket_of(typical)] += _PRIOR
        mean = sum((ended[n] + cut[n]) * tokens_of(n) for n in range(BUCKETS)) / (sum(ended) + sum(cut))
        return AnswerLengths(*_quantiles(ended, cut), mean, answers)


class LengthMeter:
    """Counts of the answers of one instance, with exponential decay."""

    def __init__(self) -> None:
        self._ended = [0.0] * BUCKETS
        self._cut = [0.0] * BUCKETS
        self._sum = LengthCounts()
        self._lengths: AnswerLengths | None = None
        self.counts: tuple[LengthCount, ...] = ()
        """Counts for the status."""

    def add(self, tokens: int, *, cut: bool) -> None:
        """Count an answer of `tokens` tokens; `cut`: it would have been longer."""
        kept = 1.0 - 1.0 / _WINDOW
        self._ended, self._cut = [kept * n for n in self._ended], [kept * n for n in self._cut]
        (self._cut if cut else self._ended)[bucket_of(tokens)] += 1.0
        found = zip(range(BUCKETS), map(round, self._ended), map(round, self._cut), strict=True)
        self.counts = tuple(LengthCount(*one) for one in found if one[1] or one[2])
        self._sum, self._lengths = LengthCounts(), None
        self._sum.add(self.counts)

    def lengths(self, typical: int) -> AnswerLengths:
        """Return the distribution beside the typical answer of the profile."""
        if self._lengths is None:
            self._lengths = self._sum.lengths(typical)
        return self._lengths


def bucket_of(tokens: int) -> int:
    """Return the bucket of a length."""
    if tokens < _EXACT:
        return max(tokens, 1) - 1
    octave = tokens.bit_length() - 1
    quarter = (tokens - (1 << octave)) >> (octave - 2)
    return min(_EXACT - 1 + 4 * (octave - 3) + quarter, BUCKETS - 1)


def tokens_of(bucket: int) -> int:
    """Return the length in the middle of a bucket."""
    if bucket < _EXACT - 1:
        return bucket + 1
    octave, quarter = divmod(bucket - _EXACT + 1, 4)
    width = 1 << (octave + 1)
    return (1 << (octave + 3)) + quarter * width + (width - 1) // 2


def _quantiles(ended: Sequence[float], cut: Sequence[float]) -> tuple[int, int]:
    """Return the median and the 99th percentile; beyond the last ended answer the longest length counts."""
    left, survival, longest = sum(ended) + sum(cut), 1.0, 0
    median, p99 = inf, inf
    for bucket, (ends, cuts) in enumerate(zip(ended, cut, strict=True)):
        if ends + cuts <= 0.0:
            continue
        longest = tokens_of(bucket)
        survival *= 1.0 - ends / max(left, ends)
        left -= ends + cuts
        if survival <= 0.5:
            median = min(median, longest)
        if survival <= 0.01:
            p99 = min(p99, longest)
    return int(min(median, longest)), int(min(p99, longest))
