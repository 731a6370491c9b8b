"""All endpoints of the admin API."""

from typing import Any, Final

from schemas.endpoints.audit import ACTS
from schemas.endpoints.endpoint import Endpoint
from schemas.endpoints.lag import LAG
from schemas.endpoints.scaling import SCALING

ENDPOINTS: Final[tuple[Endpoint[Any, Any], ...]] = (*SCALING, LAG, ACTS)
