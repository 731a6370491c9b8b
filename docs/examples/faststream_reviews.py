"""Rates reviews in a FastStream handler, from topic `reviews` to topic `reviews.rated`, at least once.

    pip install 'faststream[kafka]' ./packages/client  # in a checkout of INFaaS
    INFAAS_KAFKA=127.0.0.1:9092 python docs/examples/faststream_reviews.py

FastStream owns the consumer and the producer. The handler receives a batch, sends its queries concurrently, and
publishes the ratings. The batch is acknowledged when the handler returns. If it raises (Kafka or INFaaS is
unavailable), FastStream reads the batch again.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from faststream import AckPolicy, ContextRepo, FastStream
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage
from infaas_client import Answer, InfaasClient, QueryError

KAFKA = os.environ.get("INFAAS_KAFKA", "127.0.0.1:9092")


@asynccontextmanager
async def infaas_client(context: ContextRepo) -> AsyncGenerator[None]:
    """Keep one client open while the application runs."""
    async with InfaasClient(kafka=KAFKA) as client:
        context.set_global("infaas", client)
        yield


broker = KafkaBroker(KAFKA)
app = FastStream(broker, lifespan=infaas_client)
rated, failed = broker.publisher("reviews.rated"), broker.publisher("reviews.failed")


@broker.subscriber(
    "reviews",
    batch=True,
    max_records=200,
    group_id="rate-reviews-faststream",
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.NACK_ON_ERROR,
)
async def rate(message: KafkaMessage, context: ContextRepo) -> None:
    """Rate a batch. Answers come in the order of the reviews, so ratings with the same key stay in order."""
    infaas: InfaasClient = context.get("infaas")
    reviews: Any = message.raw_message  # a tuple for a batch
    texts = [{"text": [review.value]} for review in reviews]
    asking = infaas.infer_many("sentiment-text", texts, latency_ms=5000, min_accuracy=0.8)
    async with aclosing(asking) as answers:
        for review in reviews:
            await publish(review, await anext(answers))


async def publish(review: Any, answer: Answer | QueryError) -> None:
    """Publish the rating or the failure of a review."""
    if not isinstance(answer, QueryError):
        rating = {"label": answer.outputs["label"][0, 0].decode(), "variant": answer.variant}
        await rated.publish(rating, key=review.key)
    elif answer.retryable:
        await asyncio.sleep(answer.retry_after_s or 1)
        raise answer
    else:
        await failed.publish(review.value, key=review.key, headers={"error": f"{answer.code}: {answer}"})


if __name__ == "__main__":
    asyncio.run(app.run())
