"""The names clients may use as models: tasks, architectures and variants, in one namespace.

A name is `ready` while a variant behind it is registered as ready: it may not be loaded now, but it will be when asked
for. An architecture has as many versions as were registered, and without one the choice is the system's, as a rollout
says; all else has one, `1`.

Who asks sees the names of what it may use, and finds nothing else, whether it exists or not: what everybody may use is
in one table, and what a class of tenants may use beyond that, or sees more of, in a small one that is looked at first.
A name that is hidden is thus missing in the same two tables as one that nobody has.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from copy import copy
from functools import partial
from typing import Final

import msgspec

from schemas.access import EVERY_TENANT
from schemas.errors import UnknownTask
from schemas.names import version_target
from schemas.rows.catalog import ACCURACY, Architecture, Task, TensorSpec, Variant
from schemas.topics import task_topic
from security.access import usable_rows, users_by_name
from security.tenant_classes import STRANGERS, TenantClasses
from store.catalog import Catalog

VERSION: Final = "1"
_PLATFORM: Final = "infaas"
_BYTES_TYPE: Final = "TYPE_STRING"
_CLASSES: Final = 1024
"""Most classes of tenants whose names are kept."""


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


class ServedModels:
    """Names that some tenants may use: those of a catalog, and `others` where they are no different."""

    def __init__(self, catalog: Catalog, others: "ServedModels | None" = None) -> None:
        models = {model.name: model for model in _all_models(catalog)}
        versions = {(model.name, model.version): model for model in models.values()}
        versions |= {(model.name, model.version): model for model in _several_versions(catalog)}
        self._others = others
        self._tasks: frozenset[str] | None = None
        if others is not None:
            models = {name: model for name, model in models.items() if others._models.get(name) != model}
            versions = {key: model for key, model in versions.items() if others._versions.get(key) != model}
        self._models, self._versions = models, versions
        self._asked_at = {f"/v2/models/{model.name}/infer": model for model in models.values()}
        self._asked_at |= {f"/v2/models/{n}/versions/{v}/infer": model for (n, v), model in versions.items()}

    def of_tasks(self, tasks: frozenset[str] | None) -> "ServedModels":
        """Those of them that are of these tasks; None: all."""
        if tasks is None:
            return self
        some = copy(self)
        some._tasks = tasks
        return some

    def find(self, name: str, version: str | None = None) -> ServedModel:
        """The model of this name.

        Raises:
            UnknownTask: there is none, or not in this version.
        """
        model = self._model(name)
        if model is None:
            raise UnknownTask(f"no task, architecture or variant is called {name[:80]!r}")
        if version is None:
            return model
        found = self._version(name, version)
        if found is None:
            raise UnknownTask(f"{name} has no version {version[:20]!r}; there is {', '.join(model.versions)}")
        return found

    def asked_at(self, path: str) -> ServedModel | None:
        """The model that queries at `path` ask; None where that takes more than a look, or is none."""
        found = self._asked_at.get(path)
        return self._if_of_tasks(self._others.asked_at(path) if found is None and self._others is not None else found)

    def versions(self) -> Iterator[ServedModel]:
        """Every version of every model."""
        others = {} if self._others is None else self._others._versions
        return filter(self._if_of_tasks, (others | self._versions).values())

    def __iter__(self) -> Iterator[ServedModel]:
        others = {} if self._others is None else self._others._models
        return filter(self._if_of_tasks, (others | self._models).values())

    def _model(self, name: str) -> ServedModel | None:
        found = self._models.get(name)
        return self._if_of_tasks(self._others._model(name) if found is None and self._others is not None else found)

    def _version(self, name: str, version: str) -> ServedModel | None:
        found = self._versions.get((name, version))
        return self._others._version(name, version) if found is None and self._others is not None else found

    def _if_of_tasks(self, model: ServedModel | None) -> ServedModel | None:
        return model if self._tasks is None or (model is not None and model.task in self._tasks) else None


class ModelDirectory:
    """Names of the present catalog that clients may use as models, by who asks."""

    def __init__(self, catalog: Catalog) -> None:
        self.update(catalog)

    def update(self, catalog: Catalog) -> None:
        """Take over a newer catalog."""
        self._catalog = catalog
        self._tenants = TenantClasses(users_by_name(catalog.access, catalog.architectures.values()))
        self._public = ServedModels(_seen_by(STRANGERS, catalog, self._tenants))
        self._by_class = OrderedDict[str | None, ServedModels]({STRANGERS: self._public})
        self.topics = sorted(task_topic(name) for name in catalog.tasks)

    def __len__(self) -> int:
        return len(list(self.seen_by(EVERY_TENANT)))

    def seen_by(self, tenant: str | None) -> ServedModels:
        """What a tenant may use; None: what whoever is none may."""
        tenant_class = self._tenants.of(tenant)
        found = self._by_class.get(tenant_class)
        return self._of_class(tenant_class) if found is None else found

    def _of_class(self, tenant_class: str | None) -> ServedModels:
        catalog = _seen_by(
            tenant_class, _concerned_by(self._tenants.usable(tenant_class), self._catalog), self._tenants
        )
        made = self._by_class[tenant_class] = ServedModels(catalog, self._public)
        if len(self._by_class) > _CLASSES:
            del self._by_class[next(key for key in self._by_class if key is not STRANGERS)]
        return made


def _concerned_by(names: frozenset[str], catalog: Catalog) -> Catalog:
    """The tasks that are of these names, or have architectures of these, and all that is registered for them."""
    tasks = {name: task for name, task in catalog.tasks.items() if name in names}
    tasks |= {
        row.task: catalog.tasks[row.task]
        for name in names
        if (row := catalog.architectures.get(name)) is not None and row.task in catalog.tasks
    }
    return msgspec.structs.replace(
        catalog,
        tasks=tasks,
        architectures={name: row for name, row in catalog.architectures.items() if row.task in tasks},
        variants={name: row for name, row in catalog.variants.items() if row.task in tasks},
    )


def _seen_by(tenant_class: str | None, catalog: Catalog, tenants: TenantClasses) -> Catalog:
    """The catalog without what a class of tenants may not use."""
    if not catalog.access:
        return catalog
    may_use = partial(tenants.may_use, tenant_class)
    return msgspec.structs.replace(
        catalog,
        tasks=usable_rows(catalog.tasks, may_use),
        architectures=usable_rows(catalog.architectures, may_use),
        variants=usable_rows(catalog.variants, may_use),
    )


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
