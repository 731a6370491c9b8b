"""Shares the partitions of a variant's topic among its instances: each has one owner, and few move."""

from collections.abc import Mapping


def share_partitions(count: int, held: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Give the partitions 0..count-1 to the workers in `held`, who have those they have now.

    A division that is complete and without overlap stays as it is, even when uneven: what works is not moved, and
    selectors choose the replica first and a partition of it then. But nobody has none while another has several.
    """
    complete = sorted(p for partitions in held.values() for p in partitions) == list(range(count))
    if complete and sum(map(bool, held.values())) >= min(count, len(held)):
        return dict(held)
    shares: dict[str, list[int]] = {}
    free = set(range(count))
    # Who has the most is given the larger quotas, or partitions would move for the sake of an order of names.
    order = sorted(held, key=lambda worker: (-len(set(held[worker])), worker))
    quotas = {worker: count // len(held) + (index < count % len(held)) for index, worker in enumerate(order)}
    for worker in order:
        shares[worker] = [p for p in sorted(set(held[worker])) if p in free][: quotas[worker]]
        free.difference_update(shares[worker])
    left = sorted(free)
    for worker in order:
        missing = quotas[worker] - len(shares[worker])
        shares[worker] += left[:missing]
        del left[:missing]
    return {worker: tuple(sorted(partitions)) for worker, partitions in shares.items()}


def partition_count(replicas: int, partitions: int) -> int:
    """Number of partitions that a topic should have: a power of two, so that it seldom grows."""
    return partitions if replicas <= partitions else 1 << (replicas - 1).bit_length()
