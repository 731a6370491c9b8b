"""Process of one registration: `python -m registry.service.registration_process ID EPOCH FOLDER`.

The process writes its progress and its outcome to Postgres itself, and ends with the registrar that started it. A
temporary failure, for example because Postgres or Kafka is unavailable, is no outcome: the process exits with
`INTERRUPTED` and is started again. Its memory and CPU are limited, so that no uploaded file can exhaust the machine.
"""

import asyncio
import logging
import os
import resource
import sys
from pathlib import Path
from typing import Final

import msgspec

from broker.kafka.cluster import ping
from broker.kafka.settings import KafkaSettings
from process.backoff import Backoff
from process.errors import leaves
from process.logs import configure_logging
from process.memory import free_memory
from process.pauses import retry_until_reachable
from process.secrets import forget_secrets
from registry.artifact_settings import open_artifacts, open_exchange, open_uploads
from registry.builds.open_executor import RegistryServices
from registry.service.claimer import CANCELLED, INTERRUPTED, REFUSED
from registry.service.execute import execute_registration
from registry.service.progress import ClaimLost, ProgressWriter
from registry.service.settings import RegistrarSettings
from registry.service.staged_files import StagedFiles
from schemas.errors import InfaasError, OperatorError, QueryError
from schemas.registrations import KINDS, RegisteredVariant, files_of
from schemas.rows.audit import AuditAct, AuditVerb
from schemas.rows.registrations import RegistrationToDo
from store.claims import ClaimKey
from store.errors import StoreUnavailable
from store.pool import Pool, open_pool
from store.registrations import end_registration, registration_to_do
from store.settings import StoreSettings

log = logging.getLogger(__name__)

_BACKOFF: Final = Backoff(first_s=1.0, longest_s=1.0)


def limit_process(settings: RegistrarSettings) -> None:
    """Set the memory and CPU limits of this process. They are soft limits: a child process may raise them."""
    most = settings.memory_bytes or free_memory() // 2
    for kind, limit in ((resource.RLIMIT_DATA, most), (resource.RLIMIT_CPU, settings.cpu_s)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


async def run(claim: ClaimKey, folder: Path) -> int:
    """Execute a claimed registration; return the exit code."""
    settings, kafka, code = RegistrarSettings(), KafkaSettings(), CANCELLED
    try:
        async with open_pool(StoreSettings().dsn) as pool:
            row = await registration_to_do(pool, claim.id)
            if row is not None:
                code = await _do(row, claim, folder, settings, kafka, pool)
    except* ClaimLost:
        log.info("registration %s was cancelled, or another registrar has claimed it", claim.id)
    except* (StoreUnavailable, _Interrupted) as errors:
        log.warning("registration %s was interrupted, will be retried: %s", claim.id, next(iter(leaves(errors))))
        code = INTERRUPTED
    return code


class _Interrupted(Exception):
    """A dependency of the registration is unavailable."""


async def _do(
    row: RegistrationToDo, claim: ClaimKey, folder: Path, settings: RegistrarSettings, kafka: KafkaSettings,
    pool: Pool,
) -> int:  # fmt: skip
    progress = ProgressWriter(pool, claim, folder, settings.renew_s)
    made, error, code = list[RegisteredVariant](), "", ""
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(progress.run(), name="progress")
        try:
            made = await _registered(row, folder, settings, kafka, pool, progress)
        except StoreUnavailable:
            raise
        except InfaasError as problem:
            if isinstance(problem, OperatorError):
                await _require_kafka(kafka)
            error = progress.shown(str(problem)) or type(problem).__name__
            code = problem.code if isinstance(problem, QueryError) else ""
        except OSError as problem:
            error = progress.shown(f"{problem.filename or 'a file'}: {problem.strerror or problem}")
        except MemoryError:
            error = "reading it exceeded the memory limit"
        writing.cancel()
    await progress.write()
    await retry_until_reachable(
        lambda: end_registration(pool, claim, made, error, code),
        StoreUnavailable,
        _BACKOFF,
        failed=lambda problem: log.warning("cannot write the outcome, will retry: %s", problem),
    )
    return REFUSED if error else os.EX_OK


async def _registered(
    row: RegistrationToDo, folder: Path, settings: RegistrarSettings, kafka: KafkaSettings, pool: Pool,
    progress: ProgressWriter,
) -> list[RegisteredVariant]:  # fmt: skip
    asked = msgspec.convert(row.request, KINDS[row.kind])
    place = settings.artifacts, settings.home.absolute()
    stores = await asyncio.to_thread(lambda: (open_artifacts(*place), open_exchange(*place), open_uploads(*place)))
    artifacts, exchange, uploads = stores
    forget_secrets()  # code that reads the uploaded files runs in this process, too
    publisher = row.tenant if row.publisher else None
    sent = [given.upload for given in files_of(asked) if given.upload]
    files = StagedFiles(folder, uploads, artifacts, place, sent, publisher)

    def act(subject: str, **detail: object) -> AuditAct:
        return AuditAct(
            actor=row.asked_by, origin=row.origin, verb=AuditVerb.REGISTER, subject=subject,
            detail={"registration": row.id, **detail},
        )  # fmt: skip

    services = RegistryServices(pool, kafka, artifacts, exchange)
    return await execute_registration(asked, row.asked_by, publisher, files, services, progress, act)


async def _require_kafka(kafka: KafkaSettings) -> None:
    """Raise `_Interrupted` if Kafka cannot be reached: the registration failed for this reason."""
    try:
        await ping(kafka)
    except OperatorError as error:
        raise _Interrupted(str(error)) from error


def main(registration: str, epoch: str, folder: str) -> int:
    """Execute a registration in this process; return the exit code."""
    settings = RegistrarSettings()
    configure_logging(settings.log_level, settings.log_format)
    limit_process(settings)
    return asyncio.run(run(ClaimKey(registration, int(epoch)), Path(folder)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
