"""Answers of a generative task, as callers get them: whole, from a result, or growing, from parts of several attempts.

A query may be computed more than once: its worker dies, or a lease moves. Parts may be lost, repeated and reordered.

Rules of `GrowingAnswer`.
* The parts of an attempt count only without a gap. What is missing comes with the result, which has the whole text.
* A part with a number below 0 adds nothing: by it a worker only asks if anybody waits.
* An attempt continues the answer if its text begins with the text given so far; so each token is given once, in order.
* If the newest attempt, or the result, does not begin with the text given, the answer restarts. The attempts before the
  newest are then abandoned, so each attempt restarts the answer once at most.
* Growth that is not taken yet is one piece of text, however many parts it came in, so a slow caller costs the memory of
  its answer.
"""

from typing import Final

import msgspec

from schemas.errors import Internal
from schemas.generation import TEXT_OUTPUT, AnswerPart, FinishReason, TokenLogprob
from schemas.oip import decode_response
from schemas.result import Result

LOGPROBS_OUTPUT: Final = "logprobs"
"""Output that the option `logprobs` adds to those of the signature: for each input a JSON list of `TokenLogprob`."""
MAX_ATTEMPTS: Final = 4
"""Attempts of one query whose parts are kept; the oldest gives way."""
MAX_CHARACTERS: Final = 4 * 1024 * 1024
"""Characters of one attempt that are kept."""
MAX_AHEAD: Final = 256
"""Parts of one attempt that are kept until those before them have come."""

_decode_logprobs: Final = msgspec.json.Decoder(list[TokenLogprob]).decode


class GeneratedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whole answer to one prompt."""

    text: str
    finish_reason: FinishReason = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    mean_logprob: float | None = None
    """Mean log-probability of its tokens; None: not asked for."""
    logprobs: list[TokenLogprob] = []


def read_answers(result: Result) -> list[GeneratedAnswer]:
    """Read the answers in the result of a generative task, one for each prompt; none if it is of another task.

    Raises:
        Internal: the result has no response, or a malformed one.
    """
    outputs = decode_response(result.value, result.json_length).outputs
    columns = {name: array.reshape(-1).tolist() for name, array in outputs.items()}
    if TEXT_OUTPUT not in columns:
        return []
    try:
        return [_answer(columns, row) for row in range(len(columns[TEXT_OUTPUT]))]
    except msgspec.MsgspecError as error:
        raise Internal(f"the answer is not that of a generative task: {error}") from None


def _answer(columns: dict[str, list[object]], row: int) -> GeneratedAnswer:
    values = {name: values[row] for name, values in columns.items() if row < len(values)}
    logprobs = values.get(LOGPROBS_OUTPUT)
    fields = {
        "text": _text(values[TEXT_OUTPUT]),
        "finish_reason": _text(values.get("finish_reason", b"stop")),
        "logprobs": _decode_logprobs(logprobs) if isinstance(logprobs, bytes) and logprobs else [],
        **{name: values[name] for name in ("prompt_tokens", "completion_tokens", "mean_logprob") if name in values},
    }
    return msgspec.convert(fields, GeneratedAnswer, strict=False)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class AnswerRestart(msgspec.Struct, frozen=True):
    """Event between parts: the text given so far is void, the answer begins again."""


class _Attempt:
    """Parts of one attempt, joined."""

    def __init__(self) -> None:
        self.text = ""
        self.tokens = 0
        self.logprobs: list[TokenLogprob] = []
        self._next = 0
        self._ahead: dict[int, AnswerPart] = {}

    def add(self, number: int, part: AnswerPart) -> None:
        full = len(self._ahead) >= MAX_AHEAD and number > self._next
        if number < self._next or full or len(self.text) > MAX_CHARACTERS:
            return
        self._ahead[number] = part
        while (following := self._ahead.pop(self._next, None)) is not None:
            self._next += 1
            self.append(following)

    def append(self, part: AnswerPart) -> None:
        self.text += part.text
        self.tokens += part.tokens
        self.logprobs += part.logprobs


def _agree(text: str, other: str) -> bool:
    """Return true if one of two texts begins with the other."""
    return text.startswith(other) or other.startswith(text)


class GrowingAnswer:
    """Text of one answer, put together from the parts of its attempts and its result. No I/O."""

    def __init__(self) -> None:
        self._attempts: dict[str, _Attempt] = {}
        """Attempts by name, the oldest first."""
        self._abandoned: set[str] = set()
        self._result: _Attempt | None = None
        self._given = ""
        self._given_tokens = 0
        self._given_logprobs = 0

    def add(self, attempt: str, number: int, part: AnswerPart) -> None:
        """Add the part with this number, from 0, of an attempt."""
        if attempt in self._abandoned or self._result is not None:
            return
        if attempt not in self._attempts:
            if len(self._attempts) >= MAX_ATTEMPTS:
                self._abandon(next(iter(self._attempts)))
            self._attempts[attempt] = _Attempt()
        self._attempts[attempt].add(number, part)

    def finish(self, answer: GeneratedAnswer) -> None:
        """Add the whole answer; parts that come later change nothing."""
        self._result = _Attempt()
        self._result.append(AnswerPart(text=answer.text, tokens=answer.completion_tokens, logprobs=answer.logprobs))
        self._attempts.clear()

    def take(self) -> AnswerPart | AnswerRestart | None:
        """Return the growth since the last call, or the restart of the answer; None if there is nothing new."""
        if self._result is not None:
            return self._from(self._result)
        if not self._attempts:
            return None
        newest = self._attempts[next(reversed(self._attempts))]
        if not _agree(newest.text, self._given):
            for name in list(self._attempts)[:-1]:
                self._abandon(name)
            return self._from(newest)
        following = [attempt for attempt in self._attempts.values() if self._continues(attempt, newest)]
        longest = max(following, key=lambda attempt: len(attempt.text), default=None)
        return None if longest is None else self._from(longest)

    def _continues(self, attempt: _Attempt, newest: _Attempt) -> bool:
        return attempt.text.startswith(self._given) and _agree(attempt.text, newest.text)

    def _from(self, attempt: _Attempt) -> AnswerPart | AnswerRestart | None:
        if not attempt.text.startswith(self._given):
            self._given, self._given_tokens, self._given_logprobs = "", 0, 0
            return AnswerRestart()
        logprobs = attempt.logprobs[self._given_logprobs :]
        grown = AnswerPart(
            text=attempt.text[len(self._given) :], tokens=max(attempt.tokens - self._given_tokens, 0), logprobs=logprobs
        )
        if not grown.text and not logprobs:
            return None
        self._given = attempt.text
        self._given_tokens += grown.tokens
        self._given_logprobs += len(logprobs)
        return grown

    def _abandon(self, name: str) -> None:
        del self._attempts[name]
        if len(self._abandoned) < 64:  # bounded; an attempt is a computation, not a record that anyone can write
            self._abandoned.add(name)
