"""Errors of the store, by what the caller can do about them.

`StoreUnavailable`: nothing is known to have happened; keep the last state and try again later.
`StoreBusy`, one of them: nothing has happened, since others hold or changed the rows; try again at once.
`StoreConflict`: the rows refuse the change, whenever it is tried; the message says which rule it would break.
"""

import socket
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import asyncpg

from process.outages import Outage
from schemas.errors import InfaasError, OperatorError


class StoreUnavailable(InfaasError):
    """Postgres cannot be reached, is restarting, or did not answer in time."""


class StoreBusy(StoreUnavailable):
    """Others hold the rows, or have changed them meanwhile; the whole transaction was rolled back."""


class StoreFull(StoreUnavailable):
    """All connections of Postgres are taken; it is well, and one will be given back."""


class StoreConflict(OperatorError):
    """A change would break a rule that the tables keep, e.g. a name is already taken, or holds what none can hold."""


OUTAGE: Final = Outage("Postgres", (StoreUnavailable,), ("asyncpg",))
_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)
_REFUSED: Final = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError, asyncpg.ProgramLimitExceededError)
"""Broken constraints; what no column can hold, by its content or by its size."""
_BUSY: Final = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)
"""Lock timeouts; deadlocks and serialization failures."""
_MISCONFIGURED: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
)


def _broken_rule(error: asyncpg.PostgresError) -> str:
    """Name the rule that a change would break; constraints that are rules of ours are named in words."""
    name = str(getattr(error, "constraint_name", None) or "")
    return name.replace("_", " ") if "_is_" in name else str(error)


@contextmanager
def translate_errors() -> Generator[None]:
    """Turn the driver's errors into ones a caller can act on; defects of our own SQL stay as they are."""
    try:
        yield
        OUTAGE.answered()
    except _REFUSED as error:
        raise StoreConflict(_broken_rule(error)) from error
    except _BUSY as error:
        raise StoreBusy(f"others hold the same rows of Postgres, try again: {error}") from error
    except asyncpg.UndefinedTableError as error:
        raise OperatorError(f"the database has not our tables ({error}): run `infaas db upgrade`") from error
    except _MISCONFIGURED as error:
        raise OperatorError(f"Postgres refuses the connection ({error}): check INFAAS_POSTGRES") from error
    except (asyncpg.TooManyConnectionsError, StoreFull) as error:
        raise StoreFull(f"all connections of Postgres are taken: {error}") from error
    except _AWAY as error:
        OUTAGE.failed(reason=str(error) or type(error).__name__)
        if isinstance(error, socket.gaierror):
            raise StoreUnavailable(f"Postgres's host is not known ({error.strerror}); check INFAAS_POSTGRES") from error
        if isinstance(error, ssl.SSLCertVerificationError):
            raise StoreUnavailable(
                f"Postgres's certificate is not trusted ({error.verify_message}); check INFAAS_POSTGRES: sslrootcert "
                "names whom to trust, and sslmode=verify-full wants its host in the certificate"
            ) from error
        reason = str(error) or type(error).__name__
        raise StoreUnavailable(f"Postgres does not answer: {reason}; check INFAAS_POSTGRES") from error
