"""Which instance of a variant serves which partitions of its topic: each by exactly one, and as few moves as may be."""

from collections.abc import Mapping


def share_partitions(count: int, held: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Give the partitions 0..count-1 to the workers in `held`, who have those they have now.

    A division that is complete and without overlap stays as it is, even when uneven: what works is not moved.
    """
    if sorted(p for partitions in held.values() for p in partitions) == list(range(count)):
        return dict(held)
    shares: dict[str, list[int]] = {}
    free = set(range(count))
    for index, worker in enumerate(sorted(held)):
        quota = count // len(held) + (index < count % len(held))
        shares[worker] = [p for p in sorted(held[worker]) if p in free][:quota]
        free.difference_update(shares[worker])
    left = sorted(free)
    for index, worker in enumerate(sorted(held)):
        missing = count // len(held) + (index < count % len(held)) - len(shares[worker])
        shares[worker] += left[:missing]
        del left[:missing]
    return {worker: tuple(sorted(partitions)) for worker, partitions in shares.items()}
