"""Tests of a simulated worker by itself."""

import numpy as np

from schemas.latency import BatchLatency
from schemas.query import Needs, Query
from simulator.catalogue import Catalogue, CatalogueHardware, CatalogueVariant
from simulator.cluster.cluster import Cluster
from simulator.cluster.query import SimulatedQuery
from simulator.events import EventQueue
from simulator.outcomes import Outcomes, QueryOutcome
from simulator.scenario import Scenario
from simulator.trace import Trace

MLP = CatalogueVariant(
    name="mlp.onnx-fp32.cpu", task="digits", architecture="mlp", hardware="cpu", runtime="onnx", max_batch=4,
    accuracy=0.9, load_s=0.5, memory_bytes=1 << 20, latency=(BatchLatency(1, 0.003, 0.004),), source="a test",
)  # fmt: skip
CPU = CatalogueHardware(
    name="cpu", price_per_hour=0.4, memory_bytes=1 << 30, slots=4, start_s=30.0, maximum=3, source="a test"
)
QUERIES = 5000
"""Several times the queries that an instance holds, and the depth of the interpreter's stack."""


def test_worker_drops_backlog_of_expired_queries() -> None:
    trace = Trace(np.zeros(0), np.zeros(0, np.int32), ())
    events, outcomes = EventQueue(), Outcomes(QUERIES)
    given = Scenario(trace=trace, catalogue=Catalogue(hardware=(CPU,), variants=(MLP,)))
    cluster = Cluster(given, events, outcomes, np.random.default_rng(0))
    variant = cluster.variants[MLP.name]
    for number in range(QUERIES):
        query = Query(id="", task="digits", reply_to="", sent_ms=0.0, deadline_ms=1e3, needs=Needs(), batch=1)
        cluster.send(SimulatedQuery(number, query), variant.partition(0)[0])
    while events.next_s < 2.0:
        events.step()
    events.now = 2.0
    cluster.add_worker("cpu-0", "cpu").host(variant, MLP.max_batch, (0,))
    while outcomes.open:
        events.step()
    assert set(outcomes.columns(0.0).outcome) == {QueryOutcome.EXPIRED}
