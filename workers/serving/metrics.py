"""Metrics of a worker: for Prometheus, for its status record, and for the autoscaler.

Labelled children are bound once per instance, so that counting needs no look-up per query. `AnswerMeter` counts answers
by load class, as selectors count requests.
"""

from prometheus_client import Counter, Gauge, Histogram

from broker.delivery.outbox import Message
from runtimes.protocol import FinishedAnswer
from schemas.answer_times import time_bucket
from schemas.headers import REASON, as_text
from schemas.load_classes import ClassAnswers, ClassKey, CountsByClass
from schemas.result import OK
from schemas.status import InstanceState
from workers.serving.model import ServableModel
from workers.serving.pending_query import PendingQuery

_SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

QUERIES = Counter("infaas_worker_queries", "Queries answered.", ["variant", "code", "reason"])
LATE = Counter("infaas_worker_late_queries", "Queries answered or refused after their deadline.", ["task"])
BATCHES = Counter("infaas_worker_batches", "Batches computed.", ["variant"])
BATCH_SIZE = Histogram("infaas_worker_batch_inputs", "Inputs in a batch.", ["variant"], buckets=_SIZES)
COMPUTE = Histogram("infaas_worker_compute_seconds", "Time of a batch.", ["variant"], buckets=_SECONDS)
QUEUE = Histogram(
    "infaas_worker_queue_seconds",
    "Time from the selector's send to the start of the computation.",
    ["variant"],
    buckets=_SECONDS,
)
CORRECTION = Gauge("infaas_worker_latency_correction_ratio", "Long-term measured over profiled latency.", ["variant"])
INSTANCES = Gauge("infaas_worker_instances", "Instances by state.", ["state"])


TTFT = Histogram(
    "infaas_worker_ttft_seconds",
    "Time from the selector's send to the first token of an answer.",
    ["variant"],
    buckets=_SECONDS,
)
TPOT = Histogram("infaas_worker_tpot_seconds", "Mean time of a token after the first.", ["variant"], buckets=_SECONDS)
TOKENS = Counter("infaas_worker_tokens", "Tokens of prompts, answers and discarded drafts.", ["variant", "kind"])


class _ClassCount:
    """Answers to one load class since the last status."""

    __slots__ = ("failed", "late", "queries", "unfounded")

    def __init__(self) -> None:
        self.queries = self.late = self.failed = self.unfounded = 0


class AnswerMeter:
    """Answers of all instances of one worker, by load class, and the times of online results, by task."""

    def __init__(self) -> None:
        self._classes = CountsByClass(_ClassCount)
        self._times: dict[str, dict[int, int]] = {}

    def computed(self, task: str, key: ClassKey, seconds: float, *, late: bool) -> None:
        """Count a query that was answered with a result, `seconds` after its client sent it."""
        count = self._classes.of(task, key)
        count.queries += 1
        count.late += late
        if not key[3]:  # offline queries wait for idle workers
            times = self._times.get(task)
            if times is None:
                times = self._times[task] = {}
            bucket = time_bucket(seconds)
            times[bucket] = times.get(bucket, 0) + 1

    def failed(self, task: str, key: ClassKey, unfounded: int) -> None:
        """Count a query answered with an error; `unfounded`: inputs claimed by its header and absent from its value."""
        count = self._classes.of(task, key)
        count.queries += 1
        count.failed += 1
        count.unfounded += unfounded

    def take(self) -> tuple[ClassAnswers, ...]:
        """Return the answers since the last call."""
        return tuple(ClassAnswers(found, c.queries, c.late, c.failed, c.unfounded) for found, c in self._classes.take())

    def take_times(self) -> dict[str, dict[int, int]]:
        """Return the histogram of answer times of each task since the last call."""
        times, self._times = self._times, {}
        return times


class InstanceMetrics:
    """Metrics of one instance, in the order in which a query passes them."""

    def __init__(self, model: ServableModel, answers: AnswerMeter) -> None:
        self._variant = variant = model.name
        self._task = model.variant.task
        self._answers = answers
        self._late = LATE.labels(self._task)
        self._batches = BATCHES.labels(variant)
        self._size = BATCH_SIZE.labels(variant)
        self._compute = COMPUTE.labels(variant)
        self._queue = QUEUE.labels(variant)
        self.correction = CORRECTION.labels(variant)
        self.correction.set(model.latency.correction)
        self._by_status = {(OK, ""): QUERIES.labels(variant, OK, "")}
        self.inputs = 0
        self.late = 0
        self.expired = 0
        self.answered = 0

    def count_batch(self, inputs: int, seconds: float, exemplar: dict[str, str] | None) -> None:
        """Count a computed batch; `exemplar` names the trace of a sampled query in it."""
        self._batches.inc()
        self._size.observe(inputs)
        self._compute.observe(seconds, exemplar)

    def count_result(self, query: PendingQuery, now_s: float, *, late: bool) -> None:
        """Count a computed query, whose result is sent at `now_s` of the monotonic clock."""
        self.inputs += query.batch
        self.late += late
        self._late.inc(late)
        self._queue.observe(query.queue_ns / 1e9, None if query.span is None else query.span.exemplar)
        answer_s = now_s - query.sent_ns / 1e9 + query.task_queue_ms / 1e3
        self._answers.computed(self._task, query.class_key, answer_s, late=late)

    def count_error(self, key: ClassKey, unfounded: int, *, expired: bool) -> None:
        """Count a query answered with an error; `unfounded`: inputs claimed by its header and absent from its value."""
        self.expired += expired
        self._late.inc(expired)
        self._answers.failed(self._task, key, unfounded)

    def count_finished(self, sent: Message | None) -> None:
        """Count a finished record: its result is acknowledged, or None: it is only a dead letter."""
        self.answered += 1
        if sent is None:
            return
        reason = "" if sent.status == OK else as_text(sent.headers).get(REASON, "")
        child = self._by_status.get((sent.status, reason))
        if child is None:
            child = self._by_status[sent.status, reason] = QUERIES.labels(self._variant, sent.status, reason)
        child.inc()


class GenerationMetrics:
    """Metrics of the answers of one generative instance."""

    def __init__(self, model: ServableModel) -> None:
        self._ttft, self._tpot = TTFT.labels(model.name), TPOT.labels(model.name)
        kinds = ("prompt", "answer", "draft")
        self._prompt, self._answer, self._draft = (TOKENS.labels(model.name, kind) for kind in kinds)

    def first(self, seconds: float) -> None:
        """Count the first token of an answer; `seconds`: since the selector's send."""
        self._ttft.observe(seconds)

    def ended(self, answer: FinishedAnswer, seconds: float) -> None:
        """Count a whole answer; `seconds`: since its first token."""
        self._prompt.inc(answer.prompt_tokens)
        self._answer.inc(answer.completion_tokens)
        self._draft.inc(answer.draft_tokens or 0)
        if answer.completion_tokens > 1:
            self._tpot.observe(seconds / (answer.completion_tokens - 1))


def count_states(states: list[InstanceState]) -> None:
    """Set the gauge of instances by state."""
    for state in InstanceState:
        INSTANCES.labels(state.value).set(states.count(state))
