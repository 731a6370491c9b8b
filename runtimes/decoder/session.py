"""Answers of a decoder, many at once, with continuous batching.

Rules:
* One thread computes. Each step makes the next token of all running answers in one run of the graph. An answer joins
  after its prompt, and leaves after its last token, between two steps.
* A prompt is computed in pieces of `_PIECE_TOKENS`, one a step, so that the running answers go on.
* If the graph computes no padded rows, answers of different lengths cannot share a run: each has a run of its own in
  each step.
* The keys and values of an answer that has ended are kept while its place in the batch is free. A prompt that begins
  alike, such as the next message of a chat, is computed from there on.
* A cancelled answer ends between two steps.
"""

from collections import deque
from collections.abc import Sequence
from threading import Condition, Thread
from typing import Final

from runtimes.answer_progress import OnEnd, OnPart
from runtimes.answer_session import AnswerSession
from runtimes.decoder.answer import DecodedAnswer
from runtimes.decoder.graph import BoundKeys, DecoderGraph, KeyArrays, KeyMemory, first_tokens, joined, rows_of
from runtimes.decoder.prompts import PromptReader
from schemas.errors import InvalidRequest, ModelFailed, QueryError
from schemas.generation import GenerationOptions

_PIECE_TOKENS: Final = 64
_NO_GRAMMAR: Final = (
    "this model is computed by onnxruntime, which cannot restrict an answer to a grammar: ask without json_schema, or "
    "ask a model that was registered as a .gguf file"
)


class _Begun:
    """Answer whose prompt is being computed."""

    def __init__(self, answer: DecodedAnswer, past: list[BoundKeys], done: int) -> None:
        self.answer = answer
        self.past = past
        self.done = done
        """Tokens of the prompt whose keys are in `past`."""


class _Batch:
    """Running answers that share a run of the graph."""

    def __init__(self, memory: KeyMemory | None) -> None:
        """Compute in `memory`, or in new memory for each step."""
        self.answers: list[DecodedAnswer] = []
        self._memory = memory
        self._past: list[BoundKeys] = []
        self._pads: list[int] = []

    def step(self, graph: DecoderGraph) -> None:
        """Make the next token of each answer."""
        last = [answer.tokens_so_far[-1:] for answer in self.answers]
        target = self._memory and self._memory.other(self._past)
        logits, self._past = graph.compute(last, self._past, self._pads, target)
        for answer, row in zip(self.answers, logits, strict=True):
            answer.take(row)

    def join(self, graph: DecoderGraph, begun: _Begun) -> None:
        """Add an answer whose prompt is computed."""
        if self.answers:
            self._arrange(graph, [*rows_of(self._past, self._pads), *rows_of(begun.past, [0])])
        else:
            self._past, self._pads = begun.past, [0]
        self.answers.append(begun.answer)

    def remove_ended(self, graph: DecoderGraph) -> list[tuple[DecodedAnswer, KeyArrays]]:
        """Remove the answers that have ended or were cancelled; return them with their keys and values."""
        ended = set(filter(_has_ended, self.answers))  # decided once, since any thread may cancel one
        if not ended:
            return []
        rows = list(zip(self.answers, rows_of(self._past, self._pads), strict=True))
        removed = [(answer, [array.copy() for array in row]) for answer, row in rows if answer in ended]
        kept = [(answer, row) for answer, row in rows if answer not in ended]
        if kept:
            self._arrange(graph, [row for _, row in kept])
        self.answers = [answer for answer, _ in kept]
        return removed

    def _arrange(self, graph: DecoderGraph, rows: Sequence[KeyArrays]) -> None:
        arrays, pads = joined(rows)
        self._past, self._pads = graph.bind(arrays), pads


def _has_ended(answer: DecodedAnswer) -> bool:
    return answer.cancelled or answer.finish_reason is not None or answer.error is not None


class _KeptPrompts:
    """Keys and values of answers that have ended, the oldest first."""

    def __init__(self) -> None:
        self._kept: list[tuple[list[int], KeyArrays]] = []

    def keep(self, answer: DecodedAnswer, arrays: KeyArrays) -> None:
        """Keep those of an answer."""
        self._kept.append((answer.tokens_so_far[: arrays[0].shape[2]], arrays))

    def limit(self, most: int) -> None:
        """Drop the oldest beyond this many."""
        del self._kept[: max(len(self._kept) - most, 0)]

    def longest_beginning(self, prompt: Sequence[int]) -> KeyArrays | None:
        """Return the keys and values of the longest known beginning of a prompt, but for its last token."""
        found = [(_equal_tokens(tokens, prompt[:-1]), arrays) for tokens, arrays in self._kept]
        count, arrays = max(found, key=lambda one: one[0], default=(0, []))
        return first_tokens(arrays, count) if count else None


def _equal_tokens(tokens: Sequence[int], others: Sequence[int]) -> int:
    """Return the number of tokens with which both begin."""
    pairs = enumerate(zip(tokens, others, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(tokens), len(others)))


class DecoderSession(AnswerSession):
    """Decoder in memory, which makes answers in a thread of its own."""

    def __init__(
        self, graph: DecoderGraph, reader: PromptReader, ends: Sequence[int], *, context_tokens: int, answers: int
    ) -> None:
        super().__init__(context_tokens)
        self._graph = graph
        self._reader = reader
        self._ends = ends
        self._places = answers
        self._memory = KeyMemory(graph, answers, context_tokens) if graph.computes_padded() else None
        """Memory of the one batch; None: each answer is a batch of its own."""
        self._piece_tokens = _PIECE_TOKENS if graph.computes_pieces() else context_tokens
        self._changed = Condition()
        self._waiting: deque[DecodedAnswer] = deque()
        self._begun: deque[_Begun] = deque()
        self._batches: list[_Batch] = []
        self._kept = _KeptPrompts()
        self._ends_by_answer: dict[DecodedAnswer, OnEnd] = {}
        self._closed = False
        self._thread = Thread(target=self._run, name="decoder", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Number of answers that are being made."""
        return len(self._ends_by_answer)

    def start(self, text: str, options: GenerationOptions, on_part: OnPart, on_end: OnEnd) -> DecodedAnswer:
        """Start an answer, and return at once; see `GenerativeSession`."""
        answer = DecodedAnswer(on_part, text, options)
        with self._changed:
            self._ends_by_answer[answer] = on_end
            self._waiting.append(answer)
            self._changed.notify()
        return answer

    def close(self) -> None:
        """Cancel the running answers, and free the memory."""
        with self._changed:
            for answer in self._ends_by_answer:
                answer.cancel()
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._kept = _KeptPrompts()
        self._graph.close()

    # -- the thread ----------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        while self._wait():
            self._remove_cancelled()
            self._begin_waiting()
            self._compute_piece()
            for batch in list(self._batches):
                self._step(batch)

    def _wait(self) -> bool:
        """Wait for an answer to make; return false if there is none, and the session was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._ends_by_answer)
            return bool(self._ends_by_answer)

    @property
    def _occupied(self) -> int:
        return len(self._begun) + sum(len(batch.answers) for batch in self._batches)

    def _remove_cancelled(self) -> None:
        """Remove the cancelled answers that wait, or whose prompts are not computed."""
        with self._changed:
            cancelled = [answer for answer in self._waiting if answer.cancelled]
            for answer in cancelled:
                self._waiting.remove(answer)
        for answer in cancelled:
            self._end(answer)
        for begun in [begun for begun in self._begun if begun.answer.cancelled]:
            self._begun.remove(begun)
            self._end(begun.answer)

    def _begin_waiting(self) -> None:
        while self._waiting and self._occupied < self._places:
            answer = self._waiting.popleft()
            try:
                self._begin(answer)
            except Exception as error:  # noqa: BLE001 - a tokenizer and a template raise any error
                answer.error = error if isinstance(error, QueryError) else _failed(error)
                self._end(answer)

    def _begin(self, answer: DecodedAnswer) -> None:
        if answer.options.json_schema:
            raise InvalidRequest(_NO_GRAMMAR)
        prompt = self._reader.tokens(answer.text, chat=answer.options.chat)
        answer.begin(prompt, self._reader.tokenizer, self._ends, self._context_tokens)
        past = self._kept.longest_beginning(prompt) or self._graph.zeros(1, 0)
        answer.cached_tokens = past[0].shape[2]
        self._begun.append(_Begun(answer, self._graph.bind(past), answer.cached_tokens))
        self._kept.limit(self._places - self._occupied)

    def _compute_piece(self) -> None:
        """Compute the next piece of the oldest prompt; the last piece gives the first token of the answer."""
        if not self._begun:
            return
        begun, joins = self._begun[0], False
        answer = begun.answer
        piece = answer.tokens_so_far[begun.done : begun.done + self._piece_tokens]
        try:
            logits, begun.past = self._graph.compute([piece], begun.past, [0])
            begun.done += len(piece)
            if begun.done < answer.prompt_tokens:
                answer.grow("", 0, [])
                return
            answer.take(logits[0])
            if not _has_ended(answer):
                self._batch_for_one().join(self._graph, begun)
                joins = True
        except Exception as error:  # noqa: BLE001 - onnxruntime raises any error; only this answer must fail
            answer.error = _failed(error)
        self._begun.popleft()
        if not joins:
            self._end(answer)

    def _batch_for_one(self) -> _Batch:
        if not self._batches or self._memory is None:
            self._batches.append(_Batch(self._memory))
        return self._batches[-1]

    def _step(self, batch: _Batch) -> None:
        """Make the next token of the answers of a batch, after cancelled ones have left it."""
        try:
            self._remove_ended(batch)
            if batch.answers:
                batch.step(self._graph)
                self._remove_ended(batch)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises any error; only these answers must fail
            for answer in batch.answers:
                answer.error = answer.error or _failed(error)
                self._end(answer)
            batch.answers = []
        if not batch.answers:
            self._batches.remove(batch)

    def _remove_ended(self, batch: _Batch) -> None:
        for answer, arrays in batch.remove_ended(self._graph):
            self._kept.keep(answer, arrays)
            self._end(answer)
        self._kept.limit(self._places - self._occupied)

    def _end(self, answer: DecodedAnswer) -> None:
        with self._changed:
            on_end = self._ends_by_answer.pop(answer)
        on_end(answer.end())


def _failed(error: Exception) -> ModelFailed:
    return ModelFailed(f"the model failed on this input: {error}")
