"""One answer of a decoder: its tokens, and its growth by the logits of the next one."""

from collections.abc import Sequence
from typing import Any

from runtimes.answer_progress import AnswerProgress, OnPart
from runtimes.decoder.answer_text import AnswerText
from runtimes.decoder.sampling import Logits, TokenSampler, likeliest, log_shares
from schemas.generation import FinishReason, GenerationOptions, TokenLogprob


class DecodedAnswer(AnswerProgress):
    """Answer that is being made, token by token."""

    def __init__(self, on_part: OnPart, text: str, options: GenerationOptions) -> None:
        super().__init__(on_part)
        self.text = text
        """Its prompt or chat."""
        self.options = options
        self.tokens_so_far: list[int] = []
        """Tokens of prompt and answer; the keys of the last one are not computed yet."""
        self._most = 0
        self._ends: frozenset[int] = frozenset()

    def begin(self, prompt: Sequence[int], tokenizer: Any, ends: Sequence[int], context_tokens: int) -> None:
        """Begin with the tokens of the prompt; `ends` are the tokens that end an answer."""
        options = self.options
        self.prompt_tokens = len(prompt)
        self.tokens_so_far = list(prompt)
        self._tokenizer = tokenizer
        self._ends = frozenset() if options.ignore_eos else frozenset(ends)
        self._most = min(options.max_tokens or context_tokens, context_tokens - len(prompt))
        self._sampler = TokenSampler(options, prompt, ends)
        stops = [options.stop] if isinstance(options.stop, str) else options.stop
        self._answer_text = AnswerText(tokenizer, prompt, stops)

    def take(self, logits: Logits) -> None:
        """Choose the next token; sets `finish_reason` if it is the last one."""
        token = self._sampler.choose(logits)
        self.tokens_so_far.append(token)
        if token in self._ends:
            self._grow(self._answer_text.rest(), [], "stop")
            return
        text = self._answer_text.add(token)
        logprobs = self._log_shares(logits, token)
        if self._answer_text.stopped:
            self._grow(text, logprobs, "stop")
        elif self.tokens + 1 >= self._most:
            self._grow(text + self._answer_text.rest(), logprobs, "length")
        else:
            self._grow(text, logprobs, None)

    def _grow(self, text: str, logprobs: list[TokenLogprob], finish: FinishReason | None) -> None:
        self.finish_reason = finish
        self.grow(text, 1, logprobs)

    def _log_shares(self, logits: Logits, token: int) -> list[TokenLogprob]:
        count = self.options.logprobs
        if count is None:
            return []
        shares = log_shares(logits)
        top = [(self._shown(other), float(shares[other])) for other in likeliest(logits, count).tolist()]
        return [TokenLogprob(token=self._shown(token), logprob=float(shares[token]), top=top)]

    def _shown(self, token: int) -> str:
        return self._tokenizer.decode([token], skip_special_tokens=False)
