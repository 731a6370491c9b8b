"""Consumer lag, as last recorded."""

from datetime import UTC, datetime
from typing import Final

from admin.binding import bind
from admin.control import RequestContext
from schemas.endpoints.endpoint import Empty
from schemas.endpoints.lag import LAG, STALE_S, LagReport
from schemas.rows.samples import AlarmKind, LagSample, TopicAlarm
from store.samples import latest_lag, present_s, reading_error, topic_alarms


async def show(control: RequestContext, _request: Empty) -> LagReport:
    """Return the last reading of lag, with alarms."""
    pool = control.pool
    samples, error = await latest_lag(pool), await reading_error(pool)
    now = datetime.fromtimestamp(await present_s(pool), UTC)
    alarms = [*_alarms(samples, error, now), *map(_said, await topic_alarms(pool))]
    return LagReport(at=now, alarms=alarms, lag=samples)


def _alarms(samples: list[LagSample], error: str, now: datetime) -> list[str]:
    """Return alarms about the reading itself; the samples of one reading have the same time."""
    if error:
        return [f"cannot read the lag, so scaling is suspended: {error}"]
    if samples and (age_s := (now - samples[0].at).total_seconds()) > STALE_S:
        return [f"the last lag reading is {age_s:.0f} s old: does an autoscaler run?"]
    return []


def _said(alarm: TopicAlarm) -> str:
    if alarm.kind is AlarmKind.LOST:
        return f"{alarm.topic} lost {alarm.amount:,} unfinished records, the last at {alarm.at:%F %T %Z}"
    return f"{alarm.topic} takes {alarm.amount / 1e9:.1f} GB: is it being processed?"


BINDINGS: Final = (bind(LAG, show),)
