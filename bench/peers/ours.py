"""Our system as one more server: the ways in which it is queried, and the checks of its answers.

It is a default `infaas up` on Apache Kafka. Three ways: by HTTP with the variant that the peers serve, by Kafka with
the same variant, and by HTTP with the task and its needs, where the system chooses. The last one is repeated after
`infaas cascade TASK --find` has registered its cascades.
"""

from collections.abc import Sequence

from bench.core.system import SystemUnderTest, infaas
from bench.load.http_message import HttpRequest, SampledAnswer, infer_request
from bench.load.kafka_load import KafkaQuery, ReportedLoad
from bench.peers.workloads import PeerWorkload
from schemas import headers as h
from schemas.oip import encode_request
from schemas.tensors import Array
from schemas.topics import task_topic

BY_HTTP = "ours by HTTP, pinned"
BY_KAFKA = "ours by Kafka, pinned"
BY_TASK = "ours by HTTP, by task"
BY_CASCADE = "ours by HTTP, by task, with cascades"
WAYS = (BY_HTTP, BY_TASK, BY_KAFKA)


def port_of(system: SystemUnderTest) -> int:
    """Return the port of the gateway."""
    return int(system.gateway.rpartition(":")[2].strip("/"))


def pinned_requests(workload: PeerWorkload) -> list[HttpRequest]:
    """Return the requests that name the variant."""
    return [_request(workload.variant, workload, inputs, {}) for inputs in workload.inputs]


def task_requests(workload: PeerWorkload) -> list[HttpRequest]:
    """Return the requests that name the task: all inputs for each accuracy in turn."""
    return [
        _request(workload.task, workload, inputs, {h.MIN_ACCURACY: str(accuracy)})
        for accuracy in workload.accuracies
        for inputs in workload.inputs
    ]


def _request(model: str, workload: PeerWorkload, inputs: dict[str, Array], needs: dict[str, str]) -> HttpRequest:
    return infer_request(model, encode_request(inputs), **{h.LATENCY_MS: str(workload.objective_ms), **needs})


def kafka_load(system: SystemUnderTest, workload: PeerWorkload) -> ReportedLoad:
    """Return a load on the task's topic whose queries name the variant in a header."""
    return ReportedLoad(system.kafka, task_topic(workload.task), kafka_queries(workload))


def kafka_queries(workload: PeerWorkload) -> list[KafkaQuery]:
    """Return the records that name the variant."""
    return [_kafka_query(workload, inputs) for inputs in workload.inputs]


def _kafka_query(workload: PeerWorkload, inputs: dict[str, Array]) -> KafkaQuery:
    message = encode_request(inputs)
    headers = {
        h.CONTENT_TYPE: message.content_type,
        h.JSON_LENGTH: str(message.json_length),
        h.BATCH: str(len(next(iter(inputs.values())))),
        h.LATENCY_MS: str(workload.objective_ms),
        h.TARGET: workload.variant,
    }
    return KafkaQuery(message.value, [(name, text.encode()) for name, text in headers.items()])


async def register_cascades(system: SystemUnderTest, task: str) -> None:
    """Register the cascades that beat every single variant of a task."""
    await infaas(system.home, "cascade", task, "--find")


def check_choices(workload: PeerWorkload, samples: Sequence[SampledAnswer]) -> None:
    """Check that the chosen variants are as accurate as requested.

    Raises:
        RuntimeError: one is not.
    """
    for sample in samples:
        wanted = workload.accuracies[sample.request // len(workload.inputs)]
        accuracy = float(sample.answer.headers[h.ACCURACY])
        if accuracy < wanted:
            raise RuntimeError(f"{workload.name}: an answer has accuracy {accuracy}, but {wanted} was requested")
