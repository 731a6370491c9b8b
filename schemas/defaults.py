"""Default values that several packages must agree on.

A default that only one package uses is in that package's settings.
"""

from pathlib import Path
from typing import Final

HOME: Final = Path(".infaas")
"""Folder of artifacts, logs and embedded servers."""
LOOPBACK: Final = "127.0.0.1"
"""Default address of every listener."""
GATEWAY_PORT: Final = 8080
GRPC_PORT: Final = 8001
"""Port of gRPC; Triton's clients connect to it by default."""
KAFKA_PORT: Final = 9092

DEFAULT_LATENCY_S: Final = 1.0
"""Target latency in seconds of an online query that states none."""
HOP_S: Final = 0.005
"""Latency in seconds that the queues are assumed to add until it has been measured."""
ANSWER_TIMEOUT_S: Final = 30.0
"""Timeout in seconds of a caller that waits for the answer to a query without a deadline."""
DEMAND_INTERVAL_S: Final = 0.5
"""Seconds between two demands of a selector for the same variant."""
MAX_IN_FLIGHT: Final = 2000
"""Limit of unanswered queries in one process."""
LEASE_TTL_S: Final = 3.0
"""Seconds without a heartbeat after which the partitions of a worker are free."""
CLAIM_INTERVAL_S: Final = 300.0
"""Seconds between two claims of a reply topic by its owner; a topic without claims is deleted as abandoned."""

BATCH_LIMIT: Final = 16
"""Maximum number of inputs in a variant's batch."""
CONTEXT_TOKENS: Final = 2048
"""Maximum tokens of a prompt and its answer, for generative variants."""
SEQUENCES: Final = 8
"""Maximum answers that an instance of a generative variant makes at once."""
PARTITIONS: Final = 4
"""Partitions of the topics of each task, and of each variant on a broker that can add none later."""
THREADS: Final = 1
"""Cores of one batch, both in profiling and in serving."""
WORKER_START_S: Final = 15.0
"""Seconds that the start of a worker is assumed to take, from the wish for it until it can load an instance."""
