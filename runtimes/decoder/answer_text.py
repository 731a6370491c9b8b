"""Text of an answer as its tokens come: characters of several tokens are kept together, stop texts are kept back."""

import importlib
from collections.abc import Sequence
from typing import Any, Final

_CONTEXT_TOKENS: Final = 8
"""Last tokens of the prompt that the decoder knows: some tokenizers drop the space before the first token of a text."""


class AnswerText:
    """Text of one answer, which grows by tokens."""

    def __init__(self, tokenizer: Any, prompt: Sequence[int], stops: Sequence[str]) -> None:
        decoders: Any = importlib.import_module("tokenizers.decoders")
        self._tokenizer = tokenizer
        self._stream = decoders.DecodeStream(ids=list(prompt[-_CONTEXT_TOKENS:]), skip_special_tokens=True)
        self._stop = StopTexts(stops)

    @property
    def stopped(self) -> bool:
        """True if the answer has reached a stop text."""
        return self._stop.found

    def add(self, token: int) -> str:
        """Add a token; return the text that is certain to belong to the answer now."""
        return self._stop.add(self._stream.step(self._tokenizer, token) or "")

    def rest(self) -> str:
        """Return the text that was kept back, at the end of the answer."""
        return self._stop.rest()


class StopTexts:
    """Search for texts that end an answer. Text that may begin one of them is kept back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._kept = ""
        self.found = False
        """True if a stop text was found: neither it nor later text belongs to the answer."""

    def add(self, text: str) -> str:
        """Add new text; return the text that is certain to lie before any stop text."""
        if self.found:
            return ""
        text = self._kept + text
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.found, self._kept = True, ""
            return text[: min(places)]
        kept = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._kept = text[len(text) - kept :]
        return text[: len(text) - kept]

    def rest(self) -> str:
        """Return the text that was kept back, since no stop text follows."""
        kept, self._kept = self._kept, ""
        return kept


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` with which `stop` begins."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((length for length in lengths if stop.startswith(text[-length:])), 0)
