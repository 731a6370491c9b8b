"""Routes of jobs: queries that outlive their request and are stored in Postgres, unlike other queries."""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web
from multidict import MultiMapping

from gateway.auth.authenticator import tenant_of_request
from gateway.http.answers import HttpAnswer, error_answer, json_response, query_error_answer
from gateway.http.authorization import models_for, owner_of, principal_of
from gateway.http.bodies import RequestBodies
from gateway.http.inference import http_result_headers
from gateway.http.job_requests import JobOptions, check_key, new_job_ids, queries_in, read_jobs
from gateway.jobs.submission import JobWriter
from gateway.jobs.webhooks import parse_webhook
from gateway.limits.quotas import QuotaMeters
from gateway.model_directory import ModelDirectory
from gateway.query_client import QueryClient
from gateway.settings import GatewaySettings
from gateway.translation import with_needs
from schemas import headers as h
from schemas.access import ANYONE, Principal, Role
from schemas.errors import ErrorCode, Forbidden, InvalidRequest, UnknownTask
from schemas.jobs import (
    ENDED,
    KEY,
    MAX_LISTED,
    WEBHOOK,
    EarlierJob,
    Job,
    JobResult,
    JobState,
    NewJob,
    job_path,
    reuses_key,
)
from schemas.result import parse_result
from schemas.topics import JOB_RESULTS, may_reply_to, tenant_prefix
from store.jobs import cancel_jobs, get_job, get_job_result, list_jobs
from store.pool import Pool

_LISTED: Final = 100
_LISTED_BY: Final = ("state", "batch", "before", "limit")


class JobRoutes:
    """Handlers of jobs: submit, list, status, cancel, result."""

    def __init__(
        self,
        models: ModelDirectory,
        query_client: QueryClient,
        bodies: RequestBodies,
        writer: JobWriter,
        pool: Pool,
        quotas: QuotaMeters,
        settings: GatewaySettings,
    ) -> None:
        self._quotas = quotas
        self._models = models
        self._clock = query_client.clock
        self._bodies = bodies
        self._writer = writer
        self._pool = pool
        self._settings = settings

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        path = "/v2/models/{name}/jobs"
        return [
            web.post(path, self.submit),
            web.post("/v2/models/{name}/versions/{version}/jobs", self.submit),
            web.get(path, self.list),
            web.get(f"{path}/{{id}}", self.status),
            web.delete(f"{path}/{{id}}", self.cancel),
            web.get(f"{path}/{{id}}/result", self.result),
        ]

    async def submit(self, request: web.Request) -> web.Response:
        """Store one job, or all jobs of a list, and answer with their ids before they are computed."""
        path, principal = request.match_info, principal_of(request)
        model = models_for(request, self._models).find(path["name"], path.get("version"))
        headers = with_needs(request.headers, request.query, WEBHOOK)
        headers.pop(h.ID, None)  # a job has its own id
        meter = self._quotas.enter(principal, time.monotonic())
        try:
            async with self._bodies.reading(request.content, headers) as body:
                many = queries_in(body, headers)
                queries = [body] if many is None else many
                ids = new_job_ids(len(queries))
                if meter is not None:
                    meter.charge(len(queries) - 1)
                options, now_ns = self._options(principal, headers, request.query), self._clock.now_ns()
                jobs = await read_jobs(model, headers, queries, ids, options, now_ns, many=many is not None)
                if meter is not None:
                    meter.charge(sum(int(job.headers[h.BATCH]) - 1 for job in jobs))
                kept = await self._writer.put(jobs)
        finally:
            if meter is not None:
                meter.leave()
        before = {one.idempotency_key: one for one in kept}
        if reuses_key(jobs, before):
            return _refused(422, f"this {KEY} belongs to a different request: use another key, or repeat that request")
        return _accepted(model.name, jobs, before)

    def _options(self, principal: Principal, headers: Mapping[str, str], query: Mapping[str, str]) -> JobOptions:
        webhook, reply_to = query.get(WEBHOOK), headers.get(h.REPLY_TO)
        if webhook is not None:
            settings = self._settings
            webhook = str(parse_webhook(webhook, settings.webhook_hosts, plain_http=settings.webhook_plain_http))
        if reply_to is not None:
            _check_reply_to(principal, reply_to)
        if webhook is not None and reply_to is not None:
            raise InvalidRequest(f"a job may have one of {WEBHOOK} and {h.REPLY_TO}, not both")
        tenant = tenant_of_request(principal, headers) or ""
        return JobOptions(principal, check_key(headers.get(KEY)), tenant, webhook, reply_to)

    async def list(self, request: web.Request) -> web.Response:
        """Answer with a page of the jobs of a model, the latest first."""
        query, name = request.query, _text(request.match_info["name"])
        _check_names(query)
        limit = _limit(query.get("limit", str(_LISTED)))
        if not self._may_ask(request):
            return json_response({"jobs": [], "next": None})
        jobs = await list_jobs(
            self._pool,
            model=name,
            state=_state(query.get("state")),
            batch=_text(query["batch"]) if "batch" in query else None,
            before=_text(query["before"]) if "before" in query else None,
            tenant=owner_of(request),
            limit=limit,
        )
        following = jobs[-1].id if len(jobs) == limit else None
        return json_response({"jobs": jobs, "next": following})

    async def status(self, request: web.Request) -> web.Response:
        """Answer with the status of a job."""
        job = await self._find(request)
        return _unknown(request) if job is None else json_response(job)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a job; idempotent."""
        job = await self._find(request)
        if job is None:
            return _unknown(request)
        await cancel_jobs(self._pool, [job.id])
        job = await self._find(request)
        if job is None:
            return _unknown(request)
        if job.state is not JobState.CANCELLED:
            return _refused(409, f"job {job.id} has {job.state} already: there is nothing to cancel")
        return json_response(job)

    async def result(self, request: web.Request) -> web.Response:
        """Answer as `/infer` would have, once the job has ended."""
        path = request.match_info
        found = await get_job_result(self._pool, _text(path["id"]), owner_of(request))
        if found is None or found.model != path["name"] or not self._may_ask(request):
            return _unknown(request)
        return _result(found).response()

    async def _find(self, request: web.Request) -> Job | None:
        path = request.match_info
        job = await get_job(self._pool, _text(path["id"]), owner_of(request))
        return job if job is not None and job.model == path["name"] and self._may_ask(request) else None

    def _may_ask(self, request: web.Request) -> bool:
        """Return true if the caller may use the model of a path.

        A caller whose key is not limited to some tasks may also see jobs of unregistered models.
        """
        if principal_of(request).tasks is None:
            return True
        try:
            models_for(request, self._models).find(request.match_info["name"])
        except UnknownTask:
            return False
        return True


def _accepted(model: str, jobs: Sequence[NewJob], before: Mapping[bytes, EarlierJob]) -> web.Response:
    """Answer with the ids of jobs; a job stored earlier under the same key keeps its id."""
    ids = [before[key].id if (key := job.idempotency_key or b"") in before else job.id for job in jobs]
    if jobs[0].batch is None:
        return json_response({"id": ids[0]}, 202, {"Location": job_path(model, ids[0])})
    location = f"/v2/models/{model}/jobs?batch={jobs[0].batch}"
    return json_response({"batch": jobs[0].batch, "ids": ids}, 202, {"Location": location})


def _result(found: JobResult) -> HttpAnswer:
    if found.state not in ENDED:
        message = f"job {found.id} is {found.state}: it has a result once it has ended"
        return error_answer(409, ErrorCode.INVALID_REQUEST, message, {"Retry-After": "1"})
    if found.state is JobState.CANCELLED:
        return error_answer(410, ErrorCode.INVALID_REQUEST, f"job {found.id} was cancelled and has no result")
    if found.result is None:
        return error_answer(410, ErrorCode.INVALID_REQUEST, f"the result of job {found.id} has expired")
    result = parse_result({h.ID: found.id} | (found.result_headers or {}), found.result)
    error = result.error()
    if error is not None:
        return query_error_answer(error)
    return HttpAnswer(200, http_result_headers(result), result.value)


def _unknown(request: web.Request) -> web.Response:
    path = request.match_info
    message = f"{path['name'][:80]} has no job {path['id'][:80]!r}; it may have expired"
    return _refused(404, message)


def _refused(status: int, message: str) -> web.Response:
    return error_answer(status, ErrorCode.INVALID_REQUEST, message).response()


def _check_reply_to(principal: Principal, topic: str) -> None:
    """Check the reply topic of a job: its result is written with the rights of the system, not of the caller."""
    own = None if principal is ANYONE else principal.tenant
    if not may_reply_to(topic, own) or topic == JOB_RESULTS:
        raise InvalidRequest(f"header {h.REPLY_TO} names {topic[:80]!r}, which is no topic for results")
    if principal.has(Role.ADMIN) or (own is not None and topic.startswith(tenant_prefix(own))):
        return
    raise Forbidden(
        f"header {h.REPLY_TO} names {topic[:80]!r}: a tenant's results go to topics whose names begin with "
        f"{tenant_prefix(own or 'TENANT')}"
    )


def _text(text: str) -> str:
    """Check that Postgres can search for a name or an id, and return it."""
    if not text.isprintable():
        raise InvalidRequest(f"{text[:80]!r} has characters that no name contains")
    return text


def _check_names(query: MultiMapping[str]) -> None:
    """Refuse unknown and repeated parameters: a misspelt filter would list other jobs than requested."""
    for name in query:
        if name not in _LISTED_BY:
            raise InvalidRequest(f"unknown parameter {name[:80]!r}; the parameters are {', '.join(_LISTED_BY)}")
        if len(query.getall(name)) > 1:
            raise InvalidRequest(f"parameter {name} is given twice")


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text[:9]) <= MAX_LISTED:
        return int(text)
    raise InvalidRequest(f"limit must be a number, 1 to {MAX_LISTED}, not {text[:20]!r}")


def _state(text: str | None) -> JobState | None:
    if text is None:
        return None
    try:
        return JobState(text)
    except ValueError:
        raise InvalidRequest(f"state must be one of {', '.join(JobState)}, not {text[:20]!r}") from None
