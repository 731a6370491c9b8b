"""Queries INFaaS with confluent-kafka and the wire protocol only, without the client library.

    pip install confluent-kafka
    INFAAS_KAFKA=127.0.0.1:9092 python docs/examples/confluent_ask.py "a wonderful film" "a dull one"

A query is a record in its task's topic. The answer arrives in the topic named by the header `infaas-reply-to` and is
matched by `infaas-id`. Answers that match no open query (late, repeated or for another process) are ignored.
"""

import json
import os
import sys
import time
import uuid
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # pyright: ignore[reportPrivateImportUsage]

KAFKA = os.environ.get("INFAAS_KAFKA", "127.0.0.1:9092")
QUERIES = "infaas.tasks.sentiment-text"
ANSWERS = "reviews.answers"
NEEDS = {"infaas-latency-ms": "5000", "infaas-min-accuracy": os.environ.get("MIN_ACCURACY", "0.8")}
PATIENCE_S = 10.0
"""Longer than the requested latency, so that INFaaS can report a missed deadline itself."""


class Failed(Exception):
    """Reason why there is no answer; `retry_after_s` is the pause before a retry, None if a retry is useless."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Asker:
    """Sender of queries and reader of answers, from the current end of the single partition."""

    def __init__(self) -> None:
        ensure_topic()
        self._producer = Producer({"bootstrap.servers": KAFKA, "enable.idempotence": True, "linger.ms": 0})
        settings = {"bootstrap.servers": KAFKA, "group.id": "not used", "enable.auto.commit": False}
        self._consumer = Consumer({**settings, "fetch.wait.max.ms": fetch_wait_ms()})
        _, end = self._consumer.get_watermark_offsets(TopicPartition(ANSWERS, 0), timeout=PATIENCE_S)
        self._consumer.assign([TopicPartition(ANSWERS, 0, end)])  # before the first query is sent

    def ask_all(self, texts: list[str]) -> list[dict[str, Any] | Failed]:
        """Send all queries at once; returns for each its outputs by name, or the reason of its failure."""
        ids = [str(uuid.uuid4()) for _ in texts]
        found: dict[str, dict[str, Any] | Failed] = {}
        for query_id, text in zip(ids, texts, strict=True):
            self._send(query_id, text, found)
        self._producer.flush(PATIENCE_S)
        ends = time.monotonic() + PATIENCE_S
        while len(found) < len(ids) and (left := ends - time.monotonic()) > 0:
            message = self._consumer.poll(left)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            headers = {name: value.decode() for name, value in message.headers() or [] if isinstance(value, bytes)}
            query_id = headers.get("infaas-id", "")
            if query_id in ids and query_id not in found:
                found[query_id] = read(headers, message.value() or b"")
        return [found.get(query_id, Failed("no answer", retry_after_s=1)) for query_id in ids]

    def _send(self, query_id: str, text: str, found: dict[str, dict[str, Any] | Failed]) -> None:
        def on_delivery(error: KafkaError | None, _: Message) -> None:
            if error is not None:  # for example there is no such task, hence no such topic
                found[query_id] = Failed(f"Kafka does not accept the query: {error}")

        query = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}
        headers: dict[str, str | bytes | None] = {"infaas-id": query_id, "infaas-reply-to": ANSWERS, **NEEDS}
        self._producer.produce(QUERIES, json.dumps(query).encode(), headers=headers, on_delivery=on_delivery)


def read(headers: dict[str, str], value: bytes) -> dict[str, Any] | Failed:
    """Decode an answer: status and times are headers, the value is a response of the Open Inference Protocol."""
    status, body = headers["infaas-status"], json.loads(value)
    if status == "ok":
        return {output["name"]: output["data"] for output in body["outputs"]}
    retryable = status in ("overloaded", "deadline_exceeded", "quota_exceeded", "internal")
    after_s = float(headers.get("infaas-retry-after-ms", "1000")) / 1000
    return Failed(f"{status}: {body['error']}", after_s if retryable else None)


def ensure_topic() -> None:
    """Create the topic of answers, with a retention of one hour."""
    admin = AdminClient({"bootstrap.servers": KAFKA})
    made = admin.create_topics([NewTopic(ANSWERS, 1, config={"retention.ms": "3600000"})])
    try:
        made[ANSWERS].result(PATIENCE_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def fetch_wait_ms() -> int:
    """Return the maximum wait of a fetch: the embedded broker does not end it early for a new record."""
    cluster: Any = AdminClient({"bootstrap.servers": KAFKA}).list_topics(timeout=PATIENCE_S)
    return 10 if cluster.cluster_id == "infaas-embedded" else 500


def main(texts: list[str]) -> int:
    """Print the label of each review; returns the exit code."""
    asker, failures = Asker(), 0
    for text, answer in zip(texts, asker.ask_all(texts), strict=True):
        if isinstance(answer, Failed):
            failures += 1
            print(f"{text}: {answer}", file=sys.stderr)
        else:
            print(f"{text}: {answer['label'][0]}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
