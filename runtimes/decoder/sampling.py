"""Choice of the next token of an answer from its logits, and log-probabilities. Deterministic for a seed.

The order is that of llama.cpp, so that options mean the same for all variants of a task: penalties on the tokens of
prompt and answer, `top_k`, `top_p`, temperature. Log-probabilities are those of the model, before all of these.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.generation import GenerationOptions

Logits = NDArray[np.float32]
"""A number for each token of the vocabulary."""
_SEEDS: Final = 1 << 64


class TokenSampler:
    """Sampler of one answer."""

    def __init__(self, options: GenerationOptions, prompt: Iterable[int], ends: Sequence[int]) -> None:
        self._options = options
        self._random = np.random.default_rng(None if options.seed is None else options.seed % _SEEDS)
        self._ends = list(ends) if options.ignore_eos else []
        self._penalised = bool(options.presence_penalty or options.frequency_penalty)
        self._seen = list(prompt) if self._penalised else []

    def choose(self, logits: Logits) -> int:
        """Return the next token."""
        token = self._choose(self._adjusted(logits))
        if self._penalised:
            self._seen.append(token)
        return token

    def _adjusted(self, logits: Logits) -> Logits:
        if not self._penalised and not self._ends:
            return logits
        adjusted = logits.copy()
        adjusted[self._ends] = -np.inf
        if self._penalised:
            tokens, counts = np.unique(self._seen, return_counts=True)
            adjusted[tokens] -= self._options.presence_penalty + self._options.frequency_penalty * counts
        return adjusted

    def _choose(self, logits: Logits) -> int:
        options = self._options
        if options.temperature == 0:
            return int(logits.argmax())
        tokens = likeliest(logits, options.top_k) if 0 < options.top_k < len(logits) else np.arange(len(logits))
        kept = logits[tokens]
        if options.top_p < 1:
            nucleus = _nucleus(_shares(kept), options.top_p)
            tokens, kept = tokens[nucleus], kept[nucleus]
        sums = _shares(kept / options.temperature).cumsum()
        place = int(sums.searchsorted(self._random.random() * sums[-1], side="right"))
        return int(tokens[min(place, len(tokens) - 1)])


def likeliest(logits: Logits, count: int) -> NDArray[np.intp]:
    """Return the tokens with the `count` largest logits, the largest first."""
    others = len(logits) - min(count, len(logits))
    found = np.argpartition(logits, min(others, len(logits) - 1))[others:]
    return found[np.argsort(-logits[found], kind="stable")]


def log_shares(logits: Logits) -> NDArray[np.float64]:
    """Return the log-probabilities of all tokens."""
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def _shares(logits: Logits) -> NDArray[np.float64]:
    grown = np.exp(logits.astype(np.float64) - logits.max())
    return grown / grown.sum()


def _nucleus(shares: NDArray[np.float64], top_p: float) -> NDArray[np.intp]:
    """Return the fewest tokens whose shares sum up to `top_p`, at least one, the likeliest first."""
    # All tokens below this share sum up to less than the rest, so they are not sorted.
    (possible,) = np.nonzero(shares >= (1 - top_p) / len(shares))
    ordered = possible[np.argsort(-shares[possible], kind="stable")]
    return ordered[: int(shares[ordered].cumsum().searchsorted(top_p)) + 1]
