"""`GET /v1/models` and `/v1/models/{id}`: all names that a query may give as its model. Pure."""

from collections.abc import Iterable

from gateway.model_directory import SERVER_NAME, ServedModel
from schemas.openai import OpenAiModel, OpenAiModels


def openai_model(model: ServedModel) -> OpenAiModel:
    """Return the description of a model."""
    return OpenAiModel(
        id=model.name, task=model.task, measure=model.measure, created=model.created, owned_by=SERVER_NAME
    )


def openai_models(models: Iterable[ServedModel]) -> OpenAiModels:
    """Return the list of the models that are ready."""
    ready = sorted((model for model in models if model.ready), key=lambda model: model.name)
    return OpenAiModels(data=[openai_model(model) for model in ready])
