"""Defaults that several parts share, each said once: what one promises another must provide for.

A default that only one part has stands where that part says what may be set.
"""

from pathlib import Path
from typing import Final

HOME: Final = Path(".infaas")
"""Folder of artifacts, logs and embedded servers."""
LOOPBACK: Final = "127.0.0.1"
"""Address that everything listens on unless told otherwise."""
GATEWAY_PORT: Final = 8080
GRPC_PORT: Final = 8001
"""Port of gRPC, where clients of Triton look for it."""
KAFKA_PORT: Final = 9092

DEFAULT_LATENCY_S: Final = 1.0
"""Seconds in which an online query that names no latency should be answered."""
HOP_S: Final = 0.005
"""Seconds that the queues are assumed to add to a latency until they have been measured."""
ANSWER_TIMEOUT_S: Final = 30.0
"""Seconds that a caller whose query has no deadline waits for its answer."""
MAX_IN_FLIGHT: Final = 2000
"""Queries of one process that wait for their answers at once."""

BATCH_LIMIT: Final = 16
"""Inputs that a variant computes at once, at most."""
PARTITIONS: Final = 4
"""Partitions of a task's topic, and of each variant's."""
THREADS: Final = 1
"""Cores that one batch computes on, when it is profiled and when it is served."""
