"""Consumer lag over the admin API."""

from datetime import datetime
from typing import Final

import msgspec

from schemas.endpoints.endpoint import Endpoint, Nothing
from schemas.principal import Role
from schemas.rows.samples import LagSample

STALE_S: Final = 10.0
"""Seconds after which what was recorded is no longer the present."""


class LagReport(msgspec.Struct, frozen=True, kw_only=True):
    """How far the consumers of each topic are behind, as last recorded."""

    at: datetime
    """The present by the database's clock: that of whoever reads this may be wrong."""
    alarms: list[str]
    """Reasons why what follows is not the present, and what is wrong with topics; empty while all is well."""
    lag: list[LagSample]


LAG: Final = Endpoint(
    name="lag.show",
    method="GET",
    path="/v1/lag",
    role=Role.ADMIN,
    request=Nothing,
    result=LagReport,
    summary="Consumer lag in records and in seconds, and its health, as last recorded. Unknown is null, never 0.",
)
