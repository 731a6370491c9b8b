"""Errors of the store, classified by the action that the caller can take.

`StoreUnavailable`: the outcome is unknown; keep the last state and retry later. `StoreBusy`, a subclass: nothing was
changed, because other transactions hold or changed the rows; retry at once. `StoreConflict`: the tables refuse the
change, so a retry fails as well; the message names the violated rule.
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
    """Postgres is unreachable, restarting, or did not answer in time."""


class StoreBusy(StoreUnavailable):
    """Other transactions hold the rows or changed them; the whole transaction was rolled back."""


class StoreFull(StoreUnavailable):
    """All connections of Postgres are in use; the server works, and a connection will become free."""


class StoreConflict(OperatorError):
    """The change violates a constraint of the tables, e.g. a name is taken or a value does not fit its column."""


OUTAGE: Final = Outage("Postgres", (StoreUnavailable,), ("asyncpg",))
_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server ended the session between two statements
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)
_REFUSED: Final = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError, asyncpg.ProgramLimitExceededError)
"""Violated constraints, and values that do not fit a column by content or size."""
_BUSY: Final = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)
"""Lock timeouts, and deadlocks and serialization failures."""
_MISCONFIGURED: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
)


def _broken_rule(error: asyncpg.PostgresError) -> str:
    """Return the name of the violated rule; a constraint whose name contains `_is_` is named in words."""
    name = str(getattr(error, "constraint_name", None) or "")
    return name.replace("_", " ") if "_is_" in name else str(error)


@contextmanager
def translate_errors() -> Generator[None]:
    """Translate the driver's errors into errors that callers can handle; errors in our own SQL are not translated."""
    try:
        yield
        OUTAGE.answered()
    except _REFUSED as error:
        raise StoreConflict(_broken_rule(error)) from error
    except _BUSY as error:
        raise StoreBusy(f"other transactions lock the same rows in Postgres, try again: {error}") from error
    except asyncpg.UndefinedTableError as error:
        raise OperatorError(f"the database has no infaas tables ({error}): run `infaas db upgrade`") from error
    except _MISCONFIGURED as error:
        raise OperatorError(f"Postgres refuses the connection ({error}): check INFAAS_POSTGRES") from error
    except (asyncpg.TooManyConnectionsError, StoreFull) as error:
        raise StoreFull(f"all connections to Postgres are in use: {error}") from error
    except _AWAY as error:
        OUTAGE.failed(reason=str(error) or type(error).__name__)
        if isinstance(error, socket.gaierror):
            raise StoreUnavailable(f"unknown host of Postgres ({error.strerror}); check INFAAS_POSTGRES") from error
        if isinstance(error, ssl.SSLCertVerificationError):
            raise StoreUnavailable(
                f"Postgres's certificate is not trusted ({error.verify_message}); check INFAAS_POSTGRES: sslrootcert "
                "must name its authority, and sslmode=verify-full needs its host in the certificate"
            ) from error
        reason = str(error) or type(error).__name__
        raise StoreUnavailable(f"Postgres does not answer: {reason}; check INFAAS_POSTGRES") from error
