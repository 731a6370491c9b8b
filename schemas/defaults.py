"""Defaults that several parts share, each said once: what one promises another must provide for.

A default that only one part has stands where that part says what may be set.
"""

from pathlib import Path
from typing import Final

HOME: Final = Path(".infaas")
"""Where artifacts, logs and embedded servers live."""
LOOPBACK: Final = "127.0.0.1"
"""What everything listens on unless told otherwise."""
GATEWAY_PORT: Final = 8080
KAFKA_PORT: Final = 9092

DEFAULT_LATENCY_S: Final = 1.0
"""Latency taken for an online query that names none."""
HOP_S: Final = 0.005
"""What the queues are taken to add to a latency as long as it has not been measured."""
ANSWER_TIMEOUT_S: Final = 30.0
"""How long a caller whose query has no deadline waits for its answer."""
MAX_IN_FLIGHT: Final = 2000
"""Queries of one process that wait for their answers at once."""

BATCH_LIMIT: Final = 16
"""Inputs that a variant computes at once, at most."""
PARTITIONS: Final = 4
"""Of a task's topic, and of each variant's."""
THREADS: Final = 1
"""Cores that one batch computes on, when it is profiled and when it is served."""
