"""Jobs and batches: their progress, the single jobs with results, and their cancellation."""

from typing import Any, Final

from admin.jobs import (
    BatchProgress,
    JobCancellation,
    batches,
    cancel,
    list_some,
    progress,
    result,
    show,
    stop_batch,
)
from gateway.console.page import Act, ActOutcome, Page
from gateway.console.visit import Visit
from schemas.errors import NotFound
from schemas.jobs import ENDED, JobResult, JobState

_LISTED: Final = 20
_GROUPS: Final = 10
_MOST_RESULT: Final = 4000


async def _load(visit: Visit) -> dict[str, Any]:
    state, model, before = visit.text("state"), visit.text("model"), visit.text("before")
    jobs = await visit.call(
        list_some, state=state or None, model=model or None, batch=visit.text("batch") or None,
        before=before or None, limit=_LISTED,
    )  # fmt: skip
    going = await visit.call(progress, limit=_GROUPS)
    return {
        "progress": going,
        "batches": await visit.call(batches, limit=_GROUPS),
        "pace": {one.batch: one for one in going if one.batch},
        "jobs": jobs,
        "following": jobs[-1].id if len(jobs) == _LISTED else "",
        "states": [one.value for one in JobState],
        "state": state,
        "model": model,
        "batch": visit.text("batch"),
        "ended": ENDED,
    }


async def _load_job(visit: Visit) -> dict[str, Any]:
    job_id = visit.request.match_info["id"]
    found = await visit.call(show, ids=job_id)
    if not found:
        raise NotFound(f"there is no job {job_id[:80]!r}; it may have expired")
    answer = await visit.call(result, id=job_id) if found[0].result else None
    return {"job": found[0], "result": "" if answer is None else result_text(answer), "ended": ENDED}


def result_text(answer: JobResult) -> str:
    """Return the beginning of a result as text. Pure."""
    text = (answer.result or b"").decode(errors="backslashreplace")
    return text if len(text) <= _MOST_RESULT else f"{text[:_MOST_RESULT]} … ({len(text):,} characters)"


def _tell_cancel(done: JobCancellation) -> ActOutcome:
    if not done.cancelled:
        return ActOutcome("Nothing was cancelled: the job had ended.", changed=False)
    return ActOutcome(f"Cancelled {len(done.cancelled)} of {len(done.cancelled) + len(done.not_cancelled)} jobs.")


def _tell_batch(batch: BatchProgress) -> ActOutcome:
    return ActOutcome(f"Batch {batch.id} is {batch.status}.")


PAGES: Final = (
    Page(
        path="/console/jobs",
        title="Jobs",
        template="jobs.html",
        load=_load,
        live=("progress", "batches", "jobs"),
        menu="Jobs",
    ),
    Page(path="/console/jobs/{id}", title="Job", template="job.html", load=_load_job, live=("job",)),
)
ACTS: Final = (
    Act("/console/jobs/cancel", cancel, _tell_cancel),
    Act("/console/jobs/cancel-batch", stop_batch, _tell_batch),
)
