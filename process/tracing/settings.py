"""Settings of traces: the standard's variables `OTEL_*`, and one of our own.

The exporter's library itself reads `OTEL_EXPORTER_OTLP_*` (endpoint, headers, certificates, compression, timeout),
`OTEL_BSP_SCHEDULE_DELAY`, `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`.

The default sampler differs from the standard's, which traces every query.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import OperatorError


class Sampler(StrEnum):
    """Rule by which queries are sampled, by the names of the standard."""

    ALWAYS_ON = "always_on"
    ALWAYS_OFF = "always_off"
    RATIO = "traceidratio"
    PARENT_ALWAYS_ON = "parentbased_always_on"
    PARENT_ALWAYS_OFF = "parentbased_always_off"
    PARENT_RATIO = "parentbased_traceidratio"


class TracingSettings(BaseSettings):
    """Settings of traces, of every service."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    exporter: Literal["none", "otlp"] = Field(default="none", validation_alias="OTEL_TRACES_EXPORTER")
    """`otlp` sends traces of sampled queries to a receiver of OTLP over HTTP; `none` makes none."""
    disabled: bool = Field(default=False, validation_alias="OTEL_SDK_DISABLED")
    """True if there are no traces, whatever the other settings say."""
    sampler: Sampler = Field(default=Sampler.PARENT_RATIO, validation_alias="OTEL_TRACES_SAMPLER")
    """Rule by which queries are sampled. `parentbased_*` follows the decision in a client's `traceparent`."""
    ratio: float = Field(default=0.01, ge=0, le=1, validation_alias="OTEL_TRACES_SAMPLER_ARG")
    """Share of the queries that `traceidratio` and `parentbased_traceidratio` sample."""
    most_per_s: float = Field(default=100.0, gt=0, validation_alias="INFAAS_TRACES_PER_S")
    """Maximum traced queries per second and process, since clients may mark every query as sampled."""

    queue: int = Field(default=2048, gt=0, validation_alias="OTEL_BSP_MAX_QUEUE_SIZE")
    """Maximum spans that wait for the exporter; further ones are dropped and counted."""
    batch: int = Field(default=512, gt=0, validation_alias="OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
    """Maximum spans in one request to the receiver."""

    @property
    def on(self) -> bool:
        """True if spans are made."""
        return self.exporter != "none" and not self.disabled


def read_tracing_settings() -> TracingSettings:
    """Return the settings of this process.

    Raises:
        OperatorError: a variable has an invalid value.
    """
    try:
        return TracingSettings()
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
        raise OperatorError("; ".join(problems)) from None
