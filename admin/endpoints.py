"""All endpoints of the admin API, in the order of the documentation.

The gateway's routes, the roles they require, the paths of the OpenAPI document and the tests of authorization all come
from this table.
"""

from typing import Any, Final

from admin.access import ACCESS
from admin.activity import ACTIVITY
from admin.api import Endpoint
from admin.audit import AUDIT
from admin.catalog import CATALOG
from admin.dead_letters import DEAD_LETTERS
from admin.jobs import JOBS
from admin.keys import KEYS
from admin.overview import OVERVIEW
from admin.registrations import REGISTRATIONS
from admin.removals import REMOVALS
from admin.scaling import SCALING
from admin.system import LAG, SYSTEM
from admin.tenants import TENANTS
from admin.uploads import UPLOADS
from admin.versions import VERSIONS

ENDPOINTS: Final[tuple[Endpoint[Any, Any], ...]] = (
    *CATALOG,
    *VERSIONS,
    *REMOVALS,
    *ACCESS,
    *SCALING,
    *LAG,
    *AUDIT,
    *JOBS,
    *SYSTEM,
    *OVERVIEW,
    *ACTIVITY,
    *KEYS,
    *TENANTS,
    *DEAD_LETTERS,
    *UPLOADS,
    *REGISTRATIONS,
)
