"""Registered variants with their prices. Pure.

An online query is charged for a slot during its own latency, as if it ran alone, because the price must not depend on
other queries. An offline query waits for full batches, so it is charged for its share of one. A promised price can be
recomputed.

A variant is created once per version of a row and holds its constants in encoded form, so that the hot path does not
encode the same name and accuracy for every query.
"""

from typing import Final

from schemas import headers as h
from schemas.generation_model import GenerationModel
from schemas.hardware import CorePrice, cores_of, cores_taken, cost_per_1000, list_price
from schemas.latency import LatencyModel
from schemas.rows.catalog import Profile, Variant
from schemas.topics import variant_topics

EXACT_SIZE: Final = 32
"""Number of inputs up to which each size has a price of its own."""
_STEPS_AN_OCTAVE: Final = 8


def size_class(batch: int) -> int:
    """Return the size at which `batch` inputs are priced: itself up to 32, then the next of 8 steps per power of two.

    This bounds the number of prices, and of cached classes, to 120 sizes for up to 65,536 inputs.
    """
    if batch <= EXACT_SIZE:
        return batch
    step = (1 << (batch - 1).bit_length() - 1) // _STEPS_AN_OCTAVE
    return -(-batch // step) * step


def smallest_of(size: int) -> int:
    """Return the least number of inputs that is priced as `size`."""
    if size <= EXACT_SIZE:
        return size
    return size - (1 << (size - 1).bit_length() - 1) // _STEPS_AN_OCTAVE + 1


_MOST_MODELS: Final = 100


class PricedVariant:
    """A ready variant that queries may go to."""

    __slots__ = (
        "_generations", "_models", "accuracy", "architecture", "generation", "hardware", "load_s", "max_batch",
        "memory_bytes", "model", "name", "name_and_accuracy", "offline_topic", "partitions", "price", "profile", "row",
        "task", "task_header", "threads", "topic", "topics",
    )  # fmt: skip

    def __init__(self, row: Variant, profile: Profile, core_price: CorePrice | None = None) -> None:
        """Set the price of a core on present workers; None means the list price."""
        self.row = row
        self.profile = profile
        self.name = row.name
        self.task = row.task
        self.architecture = row.architecture
        self.hardware = row.hardware
        self.max_batch = row.max_batch
        self.partitions = row.partitions
        self.accuracy = profile.accuracy
        self.load_s = profile.load_s
        self.memory_bytes = profile.memory_bytes
        self.threads = cores_of(row.hardware, profile.threads, 1)
        """Cores that a batch takes; 1 on an accelerator."""
        self.use_price(core_price or CorePrice(list_price(row.hardware, 1)))
        self.generation = None if profile.generation is None else GenerationModel(profile.generation)
        """Times of its answers by the profile; None: it is not generative."""
        self._generations: dict[float, GenerationModel | None] = {1.0: self.generation}
        self.model = LatencyModel(profile.latency, row.max_batch)
        self._models = {(row.max_batch, 1.0): self.model}
        self.topics = variant_topics(row.name)
        self.topic, self.offline_topic = self.topics
        self.task_header = h.TASK, row.task.encode()
        self.name_and_accuracy = f"{row.name} {profile.accuracy!r}".encode()
        """Begin of the header `CHOICE` of the queries that go to it."""

    def use_price(self, core_price: CorePrice) -> None:
        """Set the price of a core; its task must drop the costs that it has computed (`TaskCandidates.use_prices`)."""
        cores = cores_taken(self.hardware, self.profile.threads, core_price.slot_threads)
        self.price = core_price.usd_per_hour * cores

    def __repr__(self) -> str:
        return f"PricedVariant({self.name!r}, accuracy={self.accuracy:.4g})"

    def model_of(self, max_batch: int, correction: float = 1.0) -> LatencyModel:
        """Return the latency model for batches up to `max_batch`, with a profile correction; equal ones are shared."""
        known = self._models.get((max_batch, correction))
        if known is None:
            if len(self._models) >= _MOST_MODELS:  # corrections change over months
                self._models.clear()
            known = self._models[max_batch, correction] = LatencyModel(self.profile.latency, max_batch, correction)
        return known

    def generation_of(self, correction: float) -> GenerationModel | None:
        """Return the times of its answers with a profile correction; None: it is not generative."""
        known = self._generations.get(correction)
        if known is None and self.profile.generation is not None:
            if len(self._generations) >= _MOST_MODELS:
                self._generations.clear()
            known = self._generations[correction] = GenerationModel(self.profile.generation, correction)
        return known

    def cost(self, size: int, offline: bool) -> float:
        """Return the USD per 1000 queries of `size` inputs: online ones run alone, offline ones in full batches.

        Those of a generative variant are per 1000 tokens: the length of an answer is not known before it is made.
        """
        if self.generation is not None:
            return cost_per_1000(self.generation.token_s(offline=offline), self.price)
        seconds = self.model.input_s() * size if offline else self.model.batch_s(size)
        return cost_per_1000(seconds, self.price)

    def ready_s(self, size: int) -> float:
        """Return the seconds until a query of `size` inputs is computed if the variant must be loaded first."""
        return self.load_s + self.model.query_s(size)
