"""Times of a generative variant, from its profile: the prompt, one token at some answers at once, a whole answer.

The time of an answer is that of its prompt and, for each further token, one step. A step makes one token of every
answer that the instance makes, so its time depends on their number. Between measured numbers the model interpolates;
beyond them it continues the last segment for prompts, and keeps the largest step, since an instance makes no more at
once.

A cascade makes a draft first, the answer of its first stage, and holds it back until its last token has shown the
confidence. So its first token comes after a whole draft, and, if the answer escalates, after the prompt of the second
stage. Every answer is promised as one that escalates; price and load are those of the share that does.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

from schemas.answer_lengths import AnswerLengths
from schemas.generation import GenerationProfile, PrefillTime, StepTime
from schemas.latency import interpolate

_MIN_TOKENS: Final = 1


class GenerationModel:
    """Prediction of the times of one variant in seconds; more tokens and more answers never take less.

    Every component that predicts must use this class, so that all predictions agree.
    """

    __slots__ = ("_prefill", "_prefill_p99", "_step", "_step_p99", "draft", "lengths", "profile", "sequences")

    def __init__(self, profile: GenerationProfile, correction: float = 1.0) -> None:
        """Create the model; `correction`, the ratio observed in operation, multiplies all measurements."""
        self.profile = profile
        self.sequences = profile.sequences
        """Answers that an instance makes at once."""
        typical = max(profile.answer_tokens, _MIN_TOKENS)
        self.lengths = AnswerLengths(typical, typical, float(typical))
        """Lengths of answers as long as nothing was learned."""
        self.draft = None if profile.draft is None else GenerationModel(profile.draft, correction)
        """Times of the draft of a cascade; None: the variant is not a cascade."""
        self._prefill = _line(profile.prefill, lambda one: one.p50_s * correction)
        self._prefill_p99 = _line(profile.prefill, lambda one: one.p99_s * correction)
        self._step = _steps(profile, lambda one: one.p50_s * correction)
        self._step_p99 = _steps(profile, lambda one: one.p99_s * correction)

    def prefill_s(self, tokens: int, *, p99: bool = False) -> float:
        """Return the seconds until a prompt of this length is computed."""
        line = self._prefill_p99 if p99 else self._prefill
        if len(line) == 1:
            return line[0][1] * tokens / max(line[0][0], _MIN_TOKENS)
        return max(interpolate(line, tokens), 0.0)

    def step_s(self, sequences: int, *, p99: bool = False) -> float:
        """Return the seconds of one token of each of `sequences` answers at once."""
        table = self._step_p99 if p99 else self._step
        return table[min(max(sequences, 1), self.sequences)]

    def answer_s(self, prompt_tokens: int, tokens: float, sequences: int, *, p99: bool = False) -> float:
        """Return the seconds of an answer of `tokens` tokens, made beside others, without a draft."""
        return self.prefill_s(prompt_tokens, p99=p99) + max(tokens - 1, 0) * self.step_s(sequences, p99=p99)

    def draft_s(self, prompt_tokens: int, tokens: float, sequences: int, *, p99: bool = False) -> float:
        """Return the seconds for which a draft of `tokens` tokens holds an answer back; 0 unless it is a cascade."""
        draft = self.draft
        return 0.0 if draft is None else draft.answer_s(self._drafted(prompt_tokens), tokens, sequences, p99=p99)

    def prompts_s(self, tokens: int) -> float:
        """Return the seconds in which all stages compute a prompt of this length."""
        return self.prefill_s(tokens) + (0.0 if self.draft is None else self.draft.prefill_s(self._drafted(tokens)))

    def together_s(self, sequences: int, tokens: float) -> float:
        """Return the mean seconds in which answers of `tokens` tokens to typical prompts are made together.

        An answer takes as long at steady load, since prompts of the others take part in its steps.
        """
        own_s = self.profile.escalated * self._own_together_s(sequences, tokens)
        return own_s + (0.0 if self.draft is None else self.draft.together_s(sequences, tokens))

    def promised_s(self, sequences: int, tokens: float, *, p99: bool = False) -> float:
        """Return the seconds in which such answers are made together, though all of a cascade escalate."""
        own_s = self._own_together_s(sequences, tokens, p99=p99)
        return own_s + (0.0 if self.draft is None else self.draft.promised_s(sequences, tokens, p99=p99))

    def _own_together_s(self, sequences: int, tokens: float, *, p99: bool = False) -> float:
        prefill_s = self.prefill_s(self.profile.prompt_tokens, p99=p99)
        return sequences * prefill_s + tokens * self.step_s(sequences, p99=p99)

    def _drafted(self, prompt_tokens: int) -> int:
        """Return the tokens of a prompt of `prompt_tokens` by the tokenizer of the first stage."""
        assert self.draft is not None, "of a cascade"
        return self.draft.prompt_tokens(max(round(prompt_tokens * self.profile.bytes_per_token), 1))

    def typical_s(self, sequences: int, lengths: AnswerLengths | None = None) -> float:
        """Return the mean seconds of an answer of mean length to a typical prompt, made beside others.

        The length is that of the profile without `lengths`, which were learned.
        """
        prompt_tokens, tokens = self.profile.prompt_tokens, (lengths or self.lengths).mean
        own_s = self.profile.escalated * self.answer_s(prompt_tokens, tokens, sequences)
        return own_s + self.draft_s(prompt_tokens, tokens, sequences)

    def token_s(self, *, offline: bool) -> float:
        """Return the seconds of an instance that one token of a typical answer costs, its part of the prompt included.

        An online answer is charged as if it were made alone, an offline one as one of many.
        """
        sequences = self.sequences if offline else 1
        return self.typical_s(sequences) / sequences / max(self.profile.answer_tokens, _MIN_TOKENS)

    def prompt_tokens(self, size: int) -> int:
        """Return the tokens of a prompt of `size` bytes; those of a typical one if the size is unknown."""
        if size <= 0:
            return self.profile.prompt_tokens
        return max(round(size / max(self.profile.bytes_per_token, 1e-3)), _MIN_TOKENS)


def priced_s(generation: GenerationProfile | None, input_s: float, *, offline: bool) -> float:
    """Return the seconds that a variant is priced by: of a token if it is generative, else `input_s`, of an input."""
    return input_s if generation is None else GenerationModel(generation).token_s(offline=offline)


def _line(measured: Sequence[PrefillTime], seconds: Callable[[PrefillTime], float]) -> list[tuple[float, float]]:
    ordered = sorted(measured, key=lambda one: one.tokens)
    grown = accumulate(map(seconds, ordered), max)
    return [(float(one.tokens), took_s) for one, took_s in zip(ordered, grown, strict=True)] or [(1.0, 0.0)]


def _steps(profile: GenerationProfile, seconds: Callable[[StepTime], float]) -> list[float]:
    """Return the seconds of a step by the number of answers, from 0 to `sequences`, never decreasing."""
    ordered = sorted(profile.step, key=lambda one: one.sequences)
    points = [(float(one.sequences), seconds(one)) for one in ordered]
    if len(points) == 1:
        points.append((points[0][0] + 1, points[0][1]))
    table = [interpolate(points, number) for number in range(1, profile.sequences + 1)]
    return [0.0, *accumulate((max(took_s, 0.0) for took_s in table), max)]
