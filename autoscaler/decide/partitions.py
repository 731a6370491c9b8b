"""Assigns the partitions of a variant's topic to its instances: one owner each, with few moves."""

from collections.abc import Mapping


def share_partitions(count: int, held: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Assign the partitions 0..count-1 to the workers in `held`, which maps workers to their present partitions.

    A complete assignment without overlaps is kept even if it is uneven, because selectors choose the replica first and
    one of its partitions then. But no worker is left without a partition while another has several.
    """
    complete = sorted(p for partitions in held.values() for p in partitions) == list(range(count))
    if complete and sum(map(bool, held.values())) >= min(count, len(held)):
        return dict(held)
    shares: dict[str, list[int]] = {}
    free = set(range(count))
    # The worker with the most partitions gets the larger quota, which avoids needless moves.
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
    """Return the number of partitions for this many replicas: a power of two, so that topics seldom grow."""
    return partitions if replicas <= partitions else 1 << (replicas - 1).bit_length()
