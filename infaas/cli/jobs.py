"""`infaas jobs`: list, show and cancel jobs, and print their results."""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from admin import jobs
from infaas.cli.admin_client import call
from infaas.cli.connect import DEFAULT_HOME, Home, Json
from infaas.cli.options import RequestOptions, prints, with_options
from infaas.cli.output import CommandGroup, day_time, err, facts, show, show_json, table
from schemas import headers as h
from schemas.errors import InvalidRequest, NotFound, OperatorError
from schemas.hardware import usd
from schemas.jobs import ENDED, Job, JobResult, JobState
from schemas.result import parse_result
from schemas.signature import JSON

app = typer.Typer(cls=CommandGroup, no_args_is_help=True)

_UNKNOWN: Final = "there is no job {}; it may have expired"


@app.callback()
def jobs_group() -> None:
    """Manage jobs: queries that are stored and continue without their client."""


def _list_jobs(request: jobs.JobsRequest, found: list[Job]) -> None:
    columns = ("id", "model", "state", "mode", "made", "attempts>", "variant", "error")
    show(table(columns, [_row(job) for job in found], optional_columns=("attempts>", "mode", "variant", "made")))
    if len(found) == request.limit:
        err.print(f"more: --before {found[-1].id}")


app.command("list")(prints(jobs.list_some, _list_jobs))


@app.command("show")
@with_options
def show_jobs(options: RequestOptions[jobs.SomeJobs], home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Show all details of jobs."""
    request = options.request()
    found = call(home, jobs.show, request)
    missing = sorted(set(request.ids) - {job.id for job in found})
    if missing:
        raise InvalidRequest(_UNKNOWN.format(", ".join(missing)))
    if as_json:
        return show_json(found[0] if len(request.ids) == 1 else found)
    for job in found:
        show(_facts(job))
    return None


@app.command()
@with_options
def cancel(options: RequestOptions[jobs.SomeJobs], home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Cancel jobs that have not ended. Exit code 2 if one has ended or does not exist."""
    done = call(home, jobs.cancel, options.request())
    if as_json:
        show_json(done)
    else:
        err.print(f"{len(done.cancelled)} job(s) cancelled")
    if done.not_cancelled:
        raise InvalidRequest(f"already ended or unknown: {', '.join(done.not_cancelled)}")


@app.command()
@with_options
def result(
    options: RequestOptions[jobs.OneJob],
    file: Annotated[Path | None, typer.Option(help="File for the result, which may be binary.")] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Print the result of a job, or write it to a file. Exit code 2, with the reason, if there is none."""
    request = options.request()
    try:
        value, headers = _value(call(home, jobs.result, request), request.id)
    except NotFound as error:  # treated like a job without a result
        raise InvalidRequest(str(error)) from None
    if file is not None:
        try:
            file.write_bytes(value)
        except OSError as error:
            raise OperatorError(f"cannot write {file}: {error.strerror}") from error
        err.print(f"{len(value)} bytes written to {file}")
    elif headers.get(h.CONTENT_TYPE, JSON) == JSON:
        sys.stdout.write(value.decode() + "\n")
    else:
        raise InvalidRequest(f"the result is {headers[h.CONTENT_TYPE]}: write it to a file with --file")


def _value(found: JobResult, job_id: str) -> tuple[bytes, dict[str, str]]:
    if found.state not in ENDED:
        raise InvalidRequest(f"job {job_id} is {found.state}: it has no result yet")
    if found.result is None:
        why = "it was cancelled" if found.state is JobState.CANCELLED else "it has expired"
        raise InvalidRequest(f"job {job_id} has no result: {why}")
    headers = found.result_headers or {}
    error = parse_result({h.ID: job_id} | headers, found.result).error()
    if error is not None:
        raise error
    return found.result, headers


def _row(job: Job) -> tuple[object, ...]:
    made = day_time(job.created_at)
    return job.id, job.model, job.state, job.mode, made, job.attempts, job.variant or "", _error(job) or ""


def _facts(job: Job) -> Table:
    notice = job.notice
    notified = None if notice is None else f"{notice.state} to {notice.to}, {notice.attempts} attempt(s) {notice.error}"
    found = {
        "job": job.id,
        "model": job.model,
        "state": job.state,
        "mode": job.mode,
        "batch": job.batch,
        "made": job.created_at,
        "deadline": job.deadline_at,
        "sent": job.sent_at,
        "ended": job.finished_at,
        "attempts": job.attempts,
        "variant": job.variant,
        "cost": None if job.cost is None else f"{usd(job.cost)} per 1000 such queries, or tokens",
        "error": _error(job),
        "result": job.result,
        "notice": notified,
    }
    return facts(found.items())


def _error(job: Job) -> str | None:
    return None if job.error is None else f"{job.error.code}: {job.error.message}"
