"""What a worker tells Prometheus. Children are bound once an instance, so that counting costs no look-up per query."""

from prometheus_client import Counter, Gauge, Histogram

from schemas.status import InstanceState

_SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

QUERIES = Counter("infaas_worker_queries", "Queries answered.", ["variant", "code"])
BATCHES = Counter("infaas_worker_batches", "Batches computed.", ["variant"])
BATCH_SIZE = Histogram("infaas_worker_batch_inputs", "Inputs in a batch.", ["variant"], buckets=_SIZES)
COMPUTE = Histogram("infaas_worker_compute_seconds", "Time of a batch.", ["variant"], buckets=_SECONDS)
QUEUE = Histogram(
    "infaas_worker_queue_seconds", "From the selector's send to the start of the computation.", ["variant"],
    buckets=_SECONDS,
)  # fmt: skip
DEAD_LETTERS = Counter("infaas_worker_dead_letters", "Records nobody could be answered for.", ["variant", "reason"])
INSTANCES = Gauge("infaas_worker_instances", "Instances by state.", ["state"])


class InstanceMetrics:
    """The children of one variant."""

    def __init__(self, variant: str) -> None:
        self._variant = variant
        self._by_code = {"ok": QUERIES.labels(variant, "ok")}
        self._batches = BATCHES.labels(variant)
        self._size = BATCH_SIZE.labels(variant)
        self._compute = COMPUTE.labels(variant)
        self._queue = QUEUE.labels(variant)

    def answered(self, code: str) -> None:
        """A query has its result acknowledged."""
        child = self._by_code.get(code)
        if child is None:
            child = self._by_code[code] = QUERIES.labels(self._variant, code)
        child.inc()

    def computed(self, inputs: int, seconds: float) -> None:
        """A batch was computed."""
        self._batches.inc()
        self._size.observe(inputs)
        self._compute.observe(seconds)

    def queued(self, seconds: float) -> None:
        """A query waited so long."""
        self._queue.observe(seconds)

    def buried(self, reason: str) -> None:
        """A record became a dead letter."""
        DEAD_LETTERS.labels(self._variant, reason).inc()


def count_states(states: list[InstanceState]) -> None:
    """Set the gauge of instances by state."""
    for state in InstanceState:
        INSTANCES.labels(state.value).set(states.count(state))
