"""The names clients may use as models: tasks, architectures and variants, in one namespace.

A name is `ready` while a variant behind it is registered as ready: it may not be loaded now, but it will be when asked
for. An architecture has as many versions as were registered, and without one the choice is the system's, as a rollout
says; all else has one, `1`.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from schemas.errors import UnknownTask
from schemas.names import version_target
from schemas.rows.catalog import ACCURACY, Architecture, Task, TensorSpec, Variant
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
    version: str = VERSION
    """The version that was asked for, or the one that serves."""
    versions: tuple[str, ...] = (VERSION,)
    """All that may be asked for."""

    def metadata(self) -> dict[str, object]:
        """Content of `GET /v2/models/{name}`."""
        return {
            "name": self.name,
            "versions": list(self.versions),
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
        self._versions = {(model.name, model.version): model for model in self._models.values()}
        self._versions |= {(model.name, model.version): model for model in _several_versions(catalog)}
        self._asked_at = {f"/v2/models/{model.name}/infer": model for model in self._models.values()}
        self._asked_at |= {f"/v2/models/{n}/versions/{v}/infer": model for (n, v), model in self._versions.items()}
        self.topics = sorted({model.topic for model in self._models.values()})

    def find(self, name: str, version: str | None = None) -> ServedModel:
        """The model of this name.

        Raises:
            UnknownTask: there is none, or not in this version.
        """
        model = self._models.get(name)
        if model is None:
            raise UnknownTask(f"no task, architecture or variant is called {name[:80]!r}")
        if version is None:
            return model
        found = self._versions.get((name, version))
        if found is None:
            raise UnknownTask(f"{name} has no version {version[:20]!r}; there is {', '.join(model.versions)}")
        return found

    def asked_at(self, path: str) -> ServedModel | None:
        """The model that queries at `path` ask; None where that takes more than a look, or is none."""
        return self._asked_at.get(path)

    def versions(self) -> Iterator[ServedModel]:
        """Every version of every model."""
        return iter(self._versions.values())

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())


def _all_models(catalog: Catalog) -> Iterator[ServedModel]:
    of_task: dict[str, list[Variant]] = {}
    for variant in catalog.variants.values():
        of_task.setdefault(variant.task, []).append(variant)
    for task in catalog.tasks.values():
        yield _model(task.name, task, None, of_task.get(task.name, ()))
    of_architecture = _by_architecture(catalog)
    for name, versions in _by_model(catalog).items():
        rollout = catalog.rollouts.get(name)
        serving = rollout.serving if rollout is not None else min(versions)
        architecture = versions.get(serving)
        task = catalog.tasks.get(architecture.task) if architecture is not None else None
        if architecture is not None and task is not None:
            model = _model(name, task, name, of_architecture.get(architecture.name, ()))
            numbers = tuple(map(str, sorted(versions)))
            yield msgspec.structs.replace(model, version=str(serving), versions=numbers)
    for variant in catalog.variants.values():
        task = catalog.tasks.get(variant.task)
        if task is not None:
            yield _model(variant.name, task, variant.name, (variant,), platform=variant.runtime)


def _several_versions(catalog: Catalog) -> Iterator[ServedModel]:
    """Each version of the models that have several, as who names it asks for it."""
    of_architecture = _by_architecture(catalog)
    for name, versions in _by_model(catalog).items():
        numbers = tuple(map(str, sorted(versions)))
        for number, architecture in versions.items() if len(versions) > 1 else ():
            task = catalog.tasks.get(architecture.task)
            if task is not None:
                target = version_target(name, number)
                model = _model(name, task, target, of_architecture.get(architecture.name, ()))
                yield msgspec.structs.replace(model, version=str(number), versions=numbers)


def _by_model(catalog: Catalog) -> dict[str, dict[int, Architecture]]:
    found: dict[str, dict[int, Architecture]] = {}
    for architecture in catalog.architectures.values():
        found.setdefault(architecture.model, {})[architecture.version] = architecture
    return found


def _by_architecture(catalog: Catalog) -> dict[str, list[Variant]]:
    found: dict[str, list[Variant]] = {}
    for variant in catalog.variants.values():
        found.setdefault(variant.architecture, []).append(variant)
    return found


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
