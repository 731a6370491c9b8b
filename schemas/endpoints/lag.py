"""Consumer lag endpoint of the admin API."""

from datetime import datetime
from typing import Final

import msgspec

from schemas.endpoints.endpoint import Empty, Endpoint
from schemas.principal import Role
from schemas.rows.samples import LagSample

STALE_S: Final = 10.0
"""Age in seconds from which a recorded lag is reported as stale."""


class LagReport(msgspec.Struct, frozen=True, kw_only=True):
    """Lag of the consumers of each topic, as last recorded."""

    at: datetime
    """Present time by the database's clock, because the reader's clock may be wrong."""
    alarms: list[str]
    """Reasons why the recorded lag may be out of date, and problems with topics; empty: no problem is known."""
    lag: list[LagSample]


LAG: Final = Endpoint(
    name="lag.show",
    method="GET",
    path="/v1/lag",
    role=Role.ADMIN,
    request=Empty,
    result=LagReport,
    summary="Show the last reading of consumer lag, in records and seconds, and its health. Unknown is null, never 0.",
)
