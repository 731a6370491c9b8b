"""Rates reviews in an aiokafka consumer, from topic `reviews` to topic `reviews.rated`, at least once.

    pip install ./packages/client  # in a checkout of INFaaS
    INFAAS_KAFKA=127.0.0.1:9092 python docs/examples/aiokafka_reviews.py

The queries of a poll are sent concurrently. Offsets are committed after the broker has acknowledged all ratings. So the
process may be killed at any moment, and several processes may share the topic. Reviews that cannot be rated go to
`reviews.failed` with the reason. The client library drops late and repeated answers.
"""

import asyncio
import json
import os
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import CommitFailedError
from infaas_client import Answer, InfaasClient, QueryError

KAFKA = os.environ.get("INFAAS_KAFKA", "127.0.0.1:9092")
ATTEMPTS = 5

Review = ConsumerRecord[bytes, bytes]


async def main() -> None:
    """Read reviews, rate them, write the ratings and commit, in an endless loop."""
    consumer = AIOKafkaConsumer(
        "reviews",
        bootstrap_servers=KAFKA,
        group_id="rate-reviews",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=KAFKA, enable_idempotence=True)
    async with InfaasClient(kafka=KAFKA) as infaas, producer, consumer:
        while True:
            batches = await consumer.getmany(timeout_ms=1000, max_records=200)
            reviews = [review for batch in batches.values() for review in batch]
            answers = await asyncio.gather(*(ask(infaas, review) for review in reviews))
            # In order, so that ratings with the same key stay in order.
            sent = [await send(producer, *pair) for pair in zip(reviews, answers, strict=True)]
            await asyncio.gather(*sent)
            with suppress(CommitFailedError):  # the partition moved to another consumer, which rates the reviews again
                await consumer.commit()


async def ask(infaas: InfaasClient, review: Review) -> Answer | QueryError:
    """Query until there is an answer or an error that no retry can fix."""
    for attempt in range(ATTEMPTS):
        try:
            return await infaas.infer(
                "sentiment-text",
                {"text": [review.value or b""]},
                latency_ms=2000,
                min_accuracy=0.8,
                query_id=f"{review.topic}-{review.partition}-{review.offset}",  # stable if the record is read again
            )
        except QueryError as error:
            if not error.retryable or attempt == ATTEMPTS - 1:
                return error
            await asyncio.sleep(error.retry_after_s or 2**attempt / 10)
    raise AssertionError("the last attempt returns")


async def send(producer: AIOKafkaProducer, review: Review, answer: Answer | QueryError) -> "asyncio.Future[object]":
    """Send the rating or the failure of a review; returns a future of the broker's acknowledgement."""
    headers = list(review.headers)
    if isinstance(answer, QueryError):
        headers.append(("error", f"{answer.code}: {answer}".encode()))
        return await producer.send("reviews.failed", review.value, review.key, headers=headers)
    rating = {"label": answer.outputs["label"][0, 0].decode(), "variant": answer.variant}
    return await producer.send("reviews.rated", json.dumps(rating).encode(), review.key, headers=headers)


if __name__ == "__main__":
    asyncio.run(main())
