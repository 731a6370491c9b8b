"""Notifies of ended jobs: calls webhooks, and forwards results to reply topics.

A due notice is claimed for longer than a delivery takes. If the claiming process dies, the claim expires and another
process delivers the notice; receivers detect duplicates by the id. Each notice has its own retry time. The notices of a
host that did not answer pause together, so that a hanging host does not occupy all slots.

The webhook client follows no redirects and uses no proxy. It checks the address when it resolves the name, and connects
to that address: a name that resolves to another address later has no effect. Of the response, only status and
Retry-After are used. Pauses between calls double at each attempt and vary by a factor of 0.5 to 1.5. Status 410 (gone)
ends the attempts at once; other errors may be temporary.
"""

import asyncio
import errno
import random
import socket
import time
from collections.abc import Collection
from types import TracebackType
from typing import Final, NamedTuple, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from broker.kafka.types import KafkaError, NotAllowed, RecordTooLarge, UnknownTopic
from broker.producing.producer import Producer
from gateway.jobs import metrics
from gateway.jobs.settings import JobsSettings
from gateway.jobs.webhooks import Network, event_of, may_call, parse_webhook, signed_headers
from process.backoff import Backoff
from process.outages import FailureLog
from process.pauses import WakeUp
from schemas import headers as h
from schemas.errors import QueryError
from schemas.jobs import DueNotice, NoticeState
from schemas.topics import PREFIX
from schemas.trace_context import sendable_trace
from store.errors import StoreUnavailable
from store.jobs import claim_notices, record_notice
from store.pool import Pool

_CLAIM_S: Final = 30.0
"""Seconds for which a claim lasts beyond the duration of a delivery."""
_HOST_PAUSE_S: Final = 10.0
_MAX_PAUSED_HOSTS: Final = 10_000
_HOST_CALLS: Final = 4
"""Maximum concurrent calls to one host."""
_GONE: Final = 410


class WebhookAnswer(NamedTuple):
    """Outcome of a webhook call: a status, or the problem that prevented one."""

    status: int | None
    problem: str = ""
    retry_after_s: float = 0.0


class NoticeOutcome(NamedTuple):
    """Outcome of an attempt to notify; a notice that waits is retried after `pause_s`."""

    state: NoticeState
    reason: str = ""
    pause_s: float = 0.0
    counts: bool = True
    """True if the receiver was called, so that it counts as an attempt."""


_DELIVERED: Final = NoticeOutcome(NoticeState.DELIVERED)


def after_call(answer: WebhookAnswer, attempts: int, most: int, backoff: Backoff) -> NoticeOutcome:
    """Return the outcome after `attempts` calls of at most `most`, including the present one."""
    if answer.status is not None and 200 <= answer.status < 300:
        return _DELIVERED
    reason = answer.problem or f"it answered {answer.status}"
    if answer.status == _GONE:
        return NoticeOutcome(NoticeState.FAILED, reason)
    if attempts >= most:
        return NoticeOutcome(NoticeState.FAILED, f"abandoned after {attempts} attempts: {reason}")
    pause_s = backoff.pause_s(attempts, min(answer.retry_after_s, backoff.longest_s))
    return NoticeOutcome(NoticeState.WAITING, reason, pause_s)


class CompletionNotifier:
    """Notifier of ended jobs; `wake` triggers a poll for due notices at once."""

    def __init__(self, pool: Pool, producer: Producer, webhooks: "WebhookClient", settings: JobsSettings) -> None:
        self._pool = pool
        self._producer = producer
        self._webhooks = webhooks
        self._settings = settings
        self._paused_until = dict[str, float]()
        """Times until which hosts that did not answer are not called."""
        self._slots = asyncio.Semaphore(settings.webhook_concurrency)
        self._free = settings.webhook_concurrency
        self._ended = WakeUp(settings.interval_s)
        self._failures = FailureLog("notifying of ended jobs", "it waits")

    def wake(self) -> None:
        """Poll at once: jobs have ended."""
        self._ended.call()

    async def run(self) -> None:
        """Deliver due notices until cancelled; poll when woken and periodically."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                async with self._slots:  # waits until a slot is free
                    free = self._free
                due = await self._claim(free)
                for notice in due:
                    await self._slots.acquire()
                    self._free -= 1
                    tasks.create_task(self._deliver(notice), name=f"notice {notice.job.id}")
                if len(due) < free:
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
            outcome = await (self._forward(notice) if notice.webhook is None else self._call(notice, notice.webhook))
            attempts = notice.attempts + outcome.counts
            await record_notice(self._pool, notice.job.id, outcome.state, attempts, outcome.reason, outcome.pause_s)
            metrics.NOTICES.labels("retry" if outcome.state is NoticeState.WAITING else outcome.state).inc()
        except StoreUnavailable as error:  # the claim expires, and the notice is delivered again
            self._failures.failed(error)
        finally:
            self._free += 1
            self._slots.release()

    async def _call(self, notice: DueNotice, webhook: str) -> NoticeOutcome:
        settings, job, now = self._settings, notice.job, time.monotonic()
        try:
            url = parse_webhook(webhook, settings.webhook_hosts, plain_http=settings.webhook_plain_http)
        except QueryError as error:  # the allowed hosts may have changed
            return NoticeOutcome(NoticeState.FAILED, str(error))
        host = str(url.origin())
        if self._paused_until.get(host, now) > now:
            reason = "its host did not answer and is paused"
            return NoticeOutcome(NoticeState.WAITING, reason, _HOST_PAUSE_S, counts=False)
        body = event_of(job)
        headers = signed_headers(job.id, int(time.time()), body, settings.keys) | sendable_trace(notice.trace)
        answer = await self._webhooks.call(url, headers, body)
        self._paused_until.pop(host, None)
        if answer.status is None and len(self._paused_until) < _MAX_PAUSED_HOSTS:
            self._paused_until[host] = now + settings.webhook_timeout_s + _HOST_PAUSE_S * random.random()
        return after_call(answer, notice.attempts + 1, settings.webhook_attempts, settings.webhook_backoff)

    async def _forward(self, notice: DueNotice) -> NoticeOutcome:
        """Send a result to the reply topic of its job."""
        job, topic = notice.job, notice.reply_to or ""
        if notice.result is None:
            return NoticeOutcome(NoticeState.FAILED, "the result has expired")
        fields = {**notice.trace, **(notice.result_headers or {}), h.ID: job.id}
        raw = [(name, text.encode()) for name, text in fields.items()]
        try:
            await self._producer.send_and_wait(topic, notice.result, key=job.id.encode(), headers=raw)
        except UnknownTopic:
            return NoticeOutcome(NoticeState.FAILED, f"the topic {topic} does not exist")
        except RecordTooLarge as error:
            return NoticeOutcome(NoticeState.FAILED, f"the result is larger than Kafka accepts: {error}")
        except KafkaError as error:
            if isinstance(error, NotAllowed) and not topic.startswith(PREFIX):  # an operator can fix our own
                return NoticeOutcome(NoticeState.FAILED, f"the system may not write to the topic {topic}")
            pause_s = self._settings.webhook_backoff.pause_s(notice.attempts + 1)  # no limit: Kafka is our own
            return NoticeOutcome(NoticeState.WAITING, f"Kafka did not accept it: {error!r}", pause_s)
        return _DELIVERED


class WebhookClient:
    """Client that calls webhooks at permitted addresses; an async context manager."""

    def __init__(self, networks: Collection[Network], timeout_s: float, concurrency: int) -> None:
        self._networks = networks
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._concurrency = concurrency
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=_CheckedResolver(self._networks), limit=self._concurrency, limit_per_host=_HOST_CALLS
        )
        self._http = aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def call(self, url: URL, headers: dict[str, str], body: bytes) -> WebhookAnswer:
        """Post to a webhook; failures are returned, not raised."""
        host = url.host or ""
        if _is_address(host) and not may_call(host, self._networks):  # the resolver is not used for addresses
            return WebhookAnswer(None, f"webhooks may not go to {host}")
        try:
            async with self._http.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return WebhookAnswer(response.status, "", _seconds(response.headers.get("Retry-After", "")))
        except TimeoutError:
            return WebhookAnswer(None, f"no answer within {self._timeout.total:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return WebhookAnswer(None, f"cannot be called: {error}"[:300])


class _CheckedResolver(AbstractResolver):
    """Resolver that returns permitted addresses only."""

    def __init__(self, networks: Collection[Network]) -> None:
        self._resolver = aiohttp.ThreadedResolver()
        self._networks = networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        allowed = [one for one in found if may_call(one["host"], self._networks)]
        if not allowed:
            raise OSError(errno.EACCES, f"{host} has no address that webhooks may go to")
        return allowed

    async def close(self) -> None:
        await self._resolver.close()


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
        except OSError:
            continue
        return True
    return False


def _seconds(text: str) -> float:
    """Return the seconds in a Retry-After header; 0 if it is absent or a date."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0
