"""Times of generative answers, computed from the measurements of a variant. Pure.

An answer begins with the computation of its prompt (prefill). Then each step makes one token of every running answer.
The more answers run, the longer a step takes. A prompt is computed in pieces between the steps of the other answers, so
its time adds to theirs.

The latency of a batch, by which variants without tokens are chosen, priced and scaled, stands for answers at once: a
batch of b takes as long as b prompts and the steps of a typical answer at b answers at once. Its p50 and p99 are made
of those of prompts and steps.
"""

from collections.abc import Callable, Sequence

from schemas.generation import GenerationProfile, PrefillTime, StepTime
from schemas.latency import BatchLatency, interpolate

_Time = PrefillTime | StepTime
_Part = Callable[[_Time], float]


def _p50(time: _Time) -> float:
    return time.p50_s


def _p99(time: _Time) -> float:
    return time.p99_s


def prefill_s(profile: GenerationProfile, tokens: int) -> float:
    """Return the median seconds of the computation of a prompt."""
    return _prefill_s(profile.prefill, tokens, _p50)


def step_s(profile: GenerationProfile, sequences: int) -> float:
    """Return the median seconds of a step that makes a token of each of `sequences` answers."""
    return _step_s(profile.step, sequences, _p50)


def answers_in_time(profile: GenerationProfile, tpot_s: float, correction: float = 1.0) -> int:
    """Return the most answers at once whose tokens take at most `tpot_s` each; 0: even one alone is slower.

    Args:
        profile: measurements of the variant.
        tpot_s: maximum seconds of a token.
        correction: factor of present over measured times.
    """
    fitting = (n for n in range(profile.sequences, 0, -1) if correction * step_s(profile, n) <= tpot_s)
    return next(fitting, 0)


def batch_latencies(profile: GenerationProfile) -> tuple[BatchLatency, ...]:
    """Return the latencies of batches that stand for the answers at once which were measured."""
    return tuple(_batch_latency(profile, step) for step in profile.step)


def _batch_latency(profile: GenerationProfile, step: StepTime) -> BatchLatency:
    def seconds(part: _Part) -> float:
        prompts_s = step.sequences * _prefill_s(profile.prefill, profile.prompt_tokens, part)
        return prompts_s + profile.answer_tokens * part(step)

    return BatchLatency(batch=step.sequences, p50_s=seconds(_p50), p99_s=seconds(_p99))


def _prefill_s(measured: Sequence[PrefillTime], tokens: int, part: _Part) -> float:
    points = [(float(point.tokens), part(point)) for point in measured]
    if len(points) == 1:
        return points[0][1] * tokens / points[0][0]
    return max(interpolate(points, tokens), 0.0)


def _step_s(measured: Sequence[StepTime], sequences: int, part: _Part) -> float:
    points = [(float(point.sequences), part(point)) for point in measured]
    return points[0][1] if len(points) == 1 else max(interpolate(points, sequences), 0.0)
