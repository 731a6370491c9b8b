"""Page of the settings of all services and programs, made from their classes."""

from enum import Enum
from typing import Any, Final, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from autoscaler.launchers.kubernetes import KubernetesSettings
from autoscaler.launchers.ray.launcher import RaySettings
from autoscaler.settings import AutoscalerSettings
from broker.kafka.settings import KafkaSettings
from gateway.jobs.settings import JobsSettings
from gateway.settings import GatewaySettings
from process.command_line import settings_variables
from process.settings import ServiceSettings
from process.signing import SigningSettings
from process.tracing.settings import TracingSettings
from reference.markdown import code, table
from registry.artifact_settings import ArtifactSettings
from registry.service.settings import RegistrarSettings
from selector.settings import SelectorSettings
from store.settings import StoreSettings
from workers.settings import WorkerSettings

_CLASSES: Final[dict[str, type[BaseSettings]]] = {
    "Gateway": GatewaySettings,
    "Selector": SelectorSettings,
    "Worker": WorkerSettings,
    "Autoscaler": AutoscalerSettings,
    "Jobs service": JobsSettings,
    "Registrar": RegistrarSettings,
    "Kafka": KafkaSettings,
    "Postgres": StoreSettings,
    "Artifacts": ArtifactSettings,
    "Signatures": SigningSettings,
    "Traces": TracingSettings,
    "Workers on Kubernetes": KubernetesSettings,
    "Workers on Ray": RaySettings,
}
_HEAD: Final = ("variable", "type", "default", "meaning")
_INTRO: Final = """# Settings

Each service reads environment variables; a flag of the same name (`--status-ttl-s` for
`INFAAS_SELECTOR_STATUS_TTL_S`) wins. Secrets are read from variables only. `--check` prints the settings and tests the
connections.

"""


def page() -> str:
    """Return the page."""
    common = dict(settings_variables(ServiceSettings))
    sections = ["## Common to all services\n\n" + table(_HEAD, map(_row, common, common.values()))]
    for title, kind in _CLASSES.items():
        rows = [_row(name, field) for name, field in settings_variables(kind) if name not in common]
        sections.append(f"## {title}\n\n" + table(_HEAD, rows))
    return _INTRO + "\n".join(sections)


def _row(variable: str, field: FieldInfo) -> tuple[str, str, str, str]:
    return code(variable), code(_type(field.annotation)), code(_default(field)), field.description or ""


def _type(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(str(one.value) for one in annotation)
    if get_origin(annotation) is None:
        return getattr(annotation, "__name__", str(annotation))
    parts = [one for one in get_args(annotation) if one is not type(None)]
    return ", ".join(dict.fromkeys(one if isinstance(one, str) else _type(one) for one in parts if one is not ...))


def _default(field: FieldInfo) -> str | None:
    found = field.default
    if found is PydanticUndefined or found is None or found == () or found == "":
        return None
    return str(found.value if isinstance(found, Enum) else found)
