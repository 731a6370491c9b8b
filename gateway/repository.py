"""The server and its repository of models, as the protocol lets clients ask about them: alike over HTTP and gRPC."""

from typing import Final, NoReturn

from gateway.model_directory import ServedModel, ServedModels
from schemas.errors import InvalidRequest, UnknownTask

SERVER_NAME: Final = "infaas"
EXTENSIONS: Final = (
    "binary_tensor_data",
    "statistics",
    "model_configuration",
    "model_repository",
    "schedule_policy",
    "parameters",
    "classification",
)


def server_metadata(version: str) -> dict[str, object]:
    """The server's name, version and extensions."""
    return {"name": SERVER_NAME, "version": version, "extensions": list(EXTENSIONS)}


def repository_index(models: ServedModels, *, only_ready: bool) -> list[dict[str, str]]:
    """Every version of every model, or of those that can be asked."""
    return [_indexed(model) for model in models.versions() if model.ready or not only_ready]


def load_model(model: ServedModel, *, changed: bool) -> None:
    """Do nothing: whatever is ready is loaded when queries ask for it.

    Raises:
        InvalidRequest: it is to be `changed` by parameters.
        UnknownTask: there is nothing to load.
    """
    if changed:
        raise InvalidRequest(f"{model.name} is what it was registered as: give `infaas register` a model or files")
    if not model.ready:
        raise UnknownTask(f"{model.name} has no variant that is ready; register one with `infaas register`")


def unload_model(model: ServedModel) -> NoReturn:
    """Refuse: what is loaded is decided by load and cost.

    Raises:
        InvalidRequest: always.
    """
    raise InvalidRequest(f"{model.name} cannot be unloaded by hand: the autoscaler unloads what is not asked for")


def _indexed(model: ServedModel) -> dict[str, str]:
    reason = "" if model.ready else "no variant is ready"
    return {
        "name": model.name,
        "version": model.version,
        "state": "READY" if model.ready else "UNAVAILABLE",
        "reason": reason,
    }
