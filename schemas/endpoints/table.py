"""All endpoints of the admin API."""

from typing import Any, Final

from schemas.endpoints.access import ACCESS
from schemas.endpoints.audit import ACTS
from schemas.endpoints.catalog import CATALOG
from schemas.endpoints.dead_letters import DEAD_LETTERS
from schemas.endpoints.endpoint import Endpoint
from schemas.endpoints.jobs import JOBS
from schemas.endpoints.keys import KEYS
from schemas.endpoints.lag import LAG
from schemas.endpoints.registrations import REGISTRATIONS
from schemas.endpoints.removals import REMOVALS
from schemas.endpoints.scaling import SCALING
from schemas.endpoints.system import SYSTEM
from schemas.endpoints.tenants import TENANTS
from schemas.endpoints.uploads import UPLOADS
from schemas.endpoints.versions import VERSIONS

ENDPOINTS: Final[tuple[Endpoint[Any, Any], ...]] = (
    *CATALOG,
    *VERSIONS,
    *REMOVALS,
    *ACCESS,
    *SCALING,
    LAG,
    ACTS,
    *JOBS,
    SYSTEM,
    *KEYS,
    *TENANTS,
    *DEAD_LETTERS,
    *UPLOADS,
    *REGISTRATIONS,
)
