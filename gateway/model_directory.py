"""The names clients may use as models: tasks, architectures and variants, in one namespace.

A name is `ready` while a variant behind it is registered as ready: it may not be loaded now, but it will be when asked
for. There is one version of each, `1`; another one is another registration.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from schemas.errors import UnknownTask
from schemas.rows.catalog import ACCURACY, Task, TensorSpec, Variant
from schemas.topics import task_topic
from store.catalog import Catalog

VERSION: Final = "1"
_PLATFORM: Final = "infaas"
_BYTES_TYPE: Final = "TYPE_STRING"


class ServedModel(msgspec.Struct, frozen=True):
    """One name that clients may use as a model."""

    name: str
    task: str
    target: str | None
    """Architecture or variant; None for the task itself, which leaves the choice open."""
    platform: str
    """Runtime of the variant, or `infaas` where it is chosen per query."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int
    """Largest batch of the variants behind the name; a larger query is not refused but computed in parts."""
    ready: bool
    topic: str
    """Topic that its queries go to."""
    measure: str = ACCURACY
    """What accuracy means of its task."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the scores, if they have any."""

    def metadata(self) -> dict[str, object]:
        """Content of `GET /v2/models/{name}`."""
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": self.platform,
            "inputs": [_described(spec) for spec in self.inputs],
            "outputs": [_described(spec) for spec in self.outputs],
            "parameters": {"measure": self.measure} | ({"classes": list(self.classes)} if self.classes else {}),
        }

    def config(self) -> dict[str, object]:
        """Content of `GET /v2/models/{name}/config`, Triton's extension; the batch dimension is left out, as there."""
        return {
            "name": self.name,
            "platform": self.platform,
            "backend": self.platform,
            "max_batch_size": self.max_batch,
            "input": [_configured(spec) for spec in self.inputs],
            "output": [_configured(spec) for spec in self.outputs],
        }


class ModelDirectory:
    """Names of the present catalog that clients may use as models."""

    def __init__(self, catalog: Catalog) -> None:
        self.update(catalog)

    def update(self, catalog: Catalog) -> None:
        """Take over a newer catalog."""
        self._models = {model.name: model for model in _all_models(catalog)}
        self._asked_at = {path: model for model in self._models.values() for path in _infer_paths(model.name)}
        self.topics = sorted({model.topic for model in self._models.values()})

    def find(self, name: str, version: str | None = None) -> ServedModel:
        """The model of this name.

        Raises:
            UnknownTask: there is none, or not in this version.
        """
        model = self._models.get(name)
        if model is None:
            raise UnknownTask(f"no task, architecture or variant is called {name[:80]!r}")
        if version is not None and version != VERSION:
            raise UnknownTask(f"{name} has no version {version[:20]!r}; its only version is {VERSION!r}")
        return model

    def asked_at(self, path: str) -> ServedModel | None:
        """The model that queries at `path` ask; None where that takes more than a look, or is none."""
        return self._asked_at.get(path)

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())


def _infer_paths(name: str) -> tuple[str, str]:
    return f"/v2/models/{name}/infer", f"/v2/models/{name}/versions/{VERSION}/infer"


def _all_models(catalog: Catalog) -> Iterator[ServedModel]:
    of_task: dict[str, list[Variant]] = {}
    of_architecture: dict[str, list[Variant]] = {}
    for variant in catalog.variants.values():
        of_task.setdefault(variant.task, []).append(variant)
        of_architecture.setdefault(variant.architecture, []).append(variant)
    for task in catalog.tasks.values():
        yield _model(task.name, task, None, of_task.get(task.name, ()))
    for architecture in catalog.architectures.values():
        task = catalog.tasks.get(architecture.task)
        if task is not None:
            yield _model(architecture.name, task, architecture.name, of_architecture.get(architecture.name, ()))
    for variant in catalog.variants.values():
        task = catalog.tasks.get(variant.task)
        if task is not None:
            yield _model(variant.name, task, variant.name, (variant,), platform=variant.runtime)


def _model(
    name: str, task: Task, target: str | None, variants: Iterable[Variant], platform: str = _PLATFORM
) -> ServedModel:
    largest = max((variant.max_batch for variant in variants), default=0)
    return ServedModel(
        name=name,
        task=task.name,
        target=target,
        platform=platform,
        inputs=task.inputs,
        outputs=task.outputs,
        max_batch=max(largest, 1),
        ready=largest > 0,
        topic=task_topic(task.name),
        measure=task.measure,
        classes=task.classes,
    )


def _described(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _configured(spec: TensorSpec) -> dict[str, object]:
    kind = _BYTES_TYPE if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
    return {"name": spec.name, "data_type": kind, "dims": list(spec.shape[1:])}
