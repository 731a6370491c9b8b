"""Metadata of the server and its model repository, shared by HTTP and gRPC."""

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
    """Return the server's name, version and extensions."""
    return {"name": SERVER_NAME, "version": version, "extensions": list(EXTENSIONS)}


def repository_index(models: ServedModels, *, only_ready: bool) -> list[dict[str, str]]:
    """Return every version of every model, or only of the ready ones."""
    return [_indexed(model) for model in models.versions() if model.ready or not only_ready]


def load_model(model: ServedModel, *, changed: bool) -> None:
    """Check that a model can be loaded; queries cause it to be loaded, so nothing else is done.

    Raises:
        InvalidRequest: parameters would change the model (`changed`).
        UnknownTask: the model has no ready variant.
    """
    if changed:
        raise InvalidRequest(f"{model.name} is what it was registered as: give `infaas register` a model or files")
    if not model.ready:
        raise UnknownTask(f"{model.name} has no variant that is ready; register one with `infaas register`")


def unload_model(model: ServedModel) -> NoReturn:
    """Refuse the request: load and cost decide which variants are loaded.

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
