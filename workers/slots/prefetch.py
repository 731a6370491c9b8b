"""Number of queries that an instance prefetches. Pure."""

from typing import Final

from schemas.latency import LatencyModel

_BATCHES_AHEAD: Final = 4


def prefetch_count(parallel: int, latency: LatencyModel, prefetch_s: float, most: int) -> int:
    """Return the number of queries to prefetch: about `prefetch_s` of work, but enough to keep the device busy.

    Args:
        parallel: batches of the instance that may compute at once.
        latency: latency of its batches.
        prefetch_s: seconds of work.
        most: the limit.
    """
    wanted = parallel * prefetch_s / max(latency.input_s(), 1e-6)
    return min(max(int(wanted), _BATCHES_AHEAD * parallel * latency.max_batch), most)
