"""Notifies of ended jobs: calls webhooks, and forwards results to reply topics.

A due notice is claimed for longer than a delivery takes. If the claiming process dies, the claim expires and another
process delivers the notice; receivers detect duplicates by the id. Each notice has its own retry time. The notices of a
host that did not answer pause together, so that a hanging host does not occupy all slots.
"""

import asyncio
import logging
import random
import time
from typing import Final

from broker.kafka_types import KafkaError, NotAllowed, RecordTooLarge, UnknownTopic
from broker.producer import Producer
from jobs import metrics
from jobs.events import event_of, signed_headers
from jobs.retries import CallAgain, CallNoMore, WebhookAnswer, after_call, after_outage
from jobs.settings import JobsSettings
from jobs.wake_up import WakeUp
from jobs.webhook_client import WebhookClient
from process.failure_log import FailureLog
from schemas import headers as h
from schemas.errors import QueryError
from schemas.jobs import NoticeState
from schemas.rows.jobs import DueNotice
from schemas.topics import PREFIX
from schemas.webhooks import parse_webhook
from store.errors import StoreUnavailable
from store.job_queue import claim_notices, note_notice
from store.pool import Pool

log = logging.getLogger(__name__)

_CLAIM_S: Final = 30.0
"""Seconds for which a claim lasts beyond the duration of a delivery."""
_REST_S: Final = 10.0
_MOST_RESTING: Final = 10_000


class NoticeDeliverer:
    """Deliverer of due notices; `wake` triggers a poll at once."""

    def __init__(self, pool: Pool, producer: Producer, webhooks: WebhookClient, settings: JobsSettings) -> None:
        self._pool = pool
        self._producer = producer
        self._webhooks = webhooks
        self._settings = settings
        self._resting = dict[str, float]()
        """Times until which hosts that did not answer are not called."""
        self._slots = asyncio.Semaphore(settings.webhook_concurrency)
        self._free = settings.webhook_concurrency
        self._ended = WakeUp(settings.interval_s)
        self._failures = FailureLog("telling of the end of jobs", "it waits")

    def wake(self) -> None:
        """Poll at once: jobs have ended."""
        self._ended.call()

    async def run(self) -> None:
        """Deliver due notices until cancelled; poll when woken and periodically."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                async with self._slots:  # waits until a slot is free
                    asked = self._free
                due = await self._claim(asked)
                for notice in due:
                    await self._slots.acquire()
                    self._free -= 1
                    tasks.create_task(self._deliver(notice), name=f"notice {notice.job.id}")
                if len(due) < asked:
                    await self._ended.wait(found=bool(due))

    async def _claim(self, most: int) -> list[DueNotice]:
        try:
            due = await claim_notices(self._pool, most, _CLAIM_S + 2 * self._settings.webhook_timeout_s)
        except StoreUnavailable as error:
            self._failures.failed(error)
            return []
        self._failures.recovered()
        return due

    async def _deliver(self, notice: DueNotice) -> None:
        try:
            step = await (self._call(notice) if notice.job.webhook is not None else self._hand_on(notice))
            attempts = notice.attempts + (step is not None)
            if isinstance(step, CallNoMore):
                state = NoticeState.FAILED if step.reason else NoticeState.DELIVERED
                await note_notice(self._pool, notice.job.id, state, attempts, step.reason)
                metrics.NOTICES.labels(state).inc()
            else:
                reason, pause_s = (step.reason, step.pause_s) if step else ("its host rests", _REST_S)
                await note_notice(self._pool, notice.job.id, NoticeState.WAITING, attempts, reason, pause_s)
                metrics.NOTICES.labels("again").inc()
        except StoreUnavailable as error:  # the claim expires, and the notice is delivered again
            self._failures.failed(error)
        finally:
            self._free += 1
            self._slots.release()

    async def _call(self, notice: DueNotice) -> CallAgain | CallNoMore | None:
        """Call a webhook; return None if it was not called since its host is paused."""
        settings, job, now = self._settings, notice.job.status(), time.monotonic()
        try:
            url = parse_webhook(
                notice.job.webhook or "", settings.webhook_hosts, plain_http=settings.webhook_plain_http
            )
        except QueryError as error:  # the allowed hosts may have changed
            return CallNoMore(str(error))
        host = str(url.origin())
        if self._resting.get(host, now) > now:
            return None
        body = event_of(job)
        answer = await self._webhooks.call(url, signed_headers(job.id, int(time.time()), body, settings.keys), body)
        self._rest(host, answer, now)
        return after_call(answer, notice.attempts + 1, settings.retry_policy, random.random())

    def _rest(self, host: str, answer: WebhookAnswer, now: float) -> None:
        self._resting.pop(host, None)
        if answer.status is None and len(self._resting) < _MOST_RESTING:
            self._resting[host] = now + self._settings.webhook_timeout_s + _REST_S * random.random()

    async def _hand_on(self, notice: DueNotice) -> CallAgain | CallNoMore:
        """Send a result to the reply topic of its job."""
        job, topic = notice.job, notice.job.reply_to or ""
        if notice.result is None:
            return CallNoMore("the result is kept no longer")
        fields = (job.result_headers or {}) | {h.ID: job.id}
        raw = [(name, text.encode()) for name, text in fields.items()]
        try:
            await self._producer.send_and_wait(topic, notice.result, key=job.id.encode(), headers=raw)
        except UnknownTopic:
            return CallNoMore(f"the topic {topic} does not exist")
        except RecordTooLarge as error:
            return CallNoMore(f"the result is larger than Kafka takes: {error}")
        except KafkaError as error:
            if isinstance(error, NotAllowed) and not topic.startswith(PREFIX):  # an operator can fix our own
                return CallNoMore(f"the system may not write to the topic {topic}")
            problem, attempts = f"Kafka did not take it: {error!r}", notice.attempts + 1
            return after_outage(problem, attempts, self._settings.retry_policy, random.random())
        return CallNoMore("")
