"""All endpoints of the admin API."""

from typing import Any, Final

from schemas.endpoints.audit import ACTS
from schemas.endpoints.dead_letters import DEAD_LETTERS
from schemas.endpoints.endpoint import Endpoint
from schemas.endpoints.jobs import JOBS
from schemas.endpoints.keys import KEYS
from schemas.endpoints.lag import LAG
from schemas.endpoints.scaling import SCALING
from schemas.endpoints.system import SYSTEM
from schemas.endpoints.tenants import TENANTS

ENDPOINTS: Final[tuple[Endpoint[Any, Any], ...]] = (
    *SCALING,
    LAG,
    ACTS,
    *JOBS,
    SYSTEM,
    *KEYS,
    *TENANTS,
    *DEAD_LETTERS,
)
