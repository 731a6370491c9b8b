"""Names that clients may use as models: tasks, models, variants, in one namespace; and metadata of all of them.

A name is `ready` if a variant of it is registered as ready. The variant need not be loaded: queries cause it to be
loaded. A model has all its registered versions; without a version in the request, the rollout chooses one. Tasks and
variants have one version, `1`.

A caller finds only names that it may use. Public names are in one table. Names that only one class of tenants sees, or
sees with more fields, are in a small table that is searched first. A hidden name and an unknown name are thus missing
in the same two tables, and look the same to the caller.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from copy import copy
from functools import partial
from typing import Final, NoReturn

import msgspec

from process.security.access import STRANGERS, TenantClasses, usable_rows, users_by_name
from schemas.access import EVERY_TENANT
from schemas.catalog import Catalog
from schemas.errors import InvalidRequest, UnknownTask
from schemas.generation import makes_text
from schemas.names import version_target
from schemas.rows.catalog import ACCURACY, Architecture, Task, TensorSpec, Variant
from schemas.topics import task_topic

VERSION: Final = "1"
_PLATFORM: Final = "infaas"
_BYTES_TYPE: Final = "TYPE_STRING"
_CLASSES: Final = 1024
"""Maximum number of classes of tenants whose tables are cached."""
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


class ServedModel(msgspec.Struct, frozen=True):
    """A name that clients may use as a model."""

    name: str
    task: str
    target: str | None
    """Model, version or variant that the query is bound to; None for a task, which leaves the choice to the selector.
    """
    platform: str
    """Runtime of a variant; `infaas` if a variant is chosen for each query."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int
    """Largest batch of its variants; a larger query is split rather than refused."""
    ready: bool
    topic: str
    """Topic for its queries."""
    measure: str = ACCURACY
    """Quality measure of its task, which `accuracy` refers to."""
    measured_output: str = ""
    """Output that is measured; empty: unknown."""
    created: int = 0
    """Time of its task's registration, in seconds since the epoch."""
    classes: tuple[str, ...] = ()
    """Names of the classes in the order of the scores, if it has any."""
    version: str = VERSION
    """Requested version, or the serving one."""
    versions: tuple[str, ...] = (VERSION,)
    """All versions that clients may request."""

    @property
    def is_generative(self) -> bool:
        """True if it makes texts token by token."""
        return makes_text(self.inputs, self.outputs)

    def metadata(self) -> dict[str, object]:
        """Return the content of `GET /v2/models/{name}`."""
        return {
            "name": self.name,
            "versions": list(self.versions),
            "platform": self.platform,
            "inputs": [_described(spec) for spec in self.inputs],
            "outputs": [_described(spec) for spec in self.outputs],
            "parameters": {"measure": self.measure} | ({"classes": list(self.classes)} if self.classes else {}),
        }

    def config(self) -> dict[str, object]:
        """Return the content of `GET /v2/models/{name}/config`, an extension of Triton; without the batch dimension."""
        return {
            "name": self.name,
            "platform": self.platform,
            "backend": self.platform,
            "max_batch_size": self.max_batch,
            "input": [_configured(spec) for spec in self.inputs],
            "output": [_configured(spec) for spec in self.outputs],
        }


class ServedModels:
    """Names that a class of tenants may use: those of `catalog`; equal entries are kept only in `others`."""

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
        self._by_path = {f"/v2/models/{model.name}/infer": model for model in models.values()}
        self._by_path |= {f"/v2/models/{n}/versions/{v}/infer": model for (n, v), model in versions.items()}

    def of_tasks(self, tasks: frozenset[str] | None) -> "ServedModels":
        """Return a view of the names of these tasks; None: of all tasks."""
        if tasks is None:
            return self
        some = copy(self)
        some._tasks = tasks
        return some

    def find(self, name: str, version: str | None = None) -> ServedModel:
        """Return the model of this name.

        Raises:
            UnknownTask: there is no such name or no such version.
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

    def find_by_path(self, path: str) -> ServedModel | None:
        """Return the model whose queries are sent to `path`; None if one lookup does not find it."""
        found = self._by_path.get(path)
        return self._if_of_tasks(
            self._others.find_by_path(path) if found is None and self._others is not None else found
        )

    def versions(self) -> Iterator[ServedModel]:
        """Iterate over every version of every model."""
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
    """Names of the present catalog that clients may use as models, by tenant."""

    def __init__(self, catalog: Catalog) -> None:
        self.update(catalog)

    def update(self, catalog: Catalog) -> None:
        """Replace the catalog by a newer one."""
        self._catalog = catalog
        self._tenants = TenantClasses(users_by_name(catalog.access, catalog.architectures.values()))
        self._public = ServedModels(_seen_by(STRANGERS, catalog, self._tenants))
        self._by_class = OrderedDict[str | None, ServedModels]({STRANGERS: self._public})
        self.topics = sorted(task_topic(name) for name in catalog.tasks)

    def __len__(self) -> int:
        return len(list(self.seen_by(EVERY_TENANT)))

    def seen_by(self, tenant: str | None) -> ServedModels:
        """Return the names that a tenant may use; None: the public names."""
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
    """Return the tasks with these names or with models of these names, and all models and variants of these tasks."""
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
    """Return the catalog without entries that a class of tenants may not use."""
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
    """Yield each version of models with several versions, as requested by number."""
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
        measured_output=task.measured_output,
        created=int(task.created_at.timestamp()) if task.created_at is not None else 0,
        classes=task.classes,
    )


def _described(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _configured(spec: TensorSpec) -> dict[str, object]:
    kind = _BYTES_TYPE if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
    return {"name": spec.name, "data_type": kind, "dims": list(spec.shape[1:])}


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
        raise InvalidRequest(f"{model.name} cannot be changed by loading: use `infaas register` for a new version")
    if not model.ready:
        raise UnknownTask(f"{model.name} has no variant that is ready; register one with `infaas register`")


def unload_model(model: ServedModel) -> NoReturn:
    """Refuse the request: load and cost decide which variants are loaded.

    Raises:
        InvalidRequest: always.
    """
    raise InvalidRequest(f"{model.name} cannot be unloaded by a request: the autoscaler unloads unused variants")


def _indexed(model: ServedModel) -> dict[str, str]:
    reason = "" if model.ready else "no variant is ready"
    return {
        "name": model.name,
        "version": model.version,
        "state": "READY" if model.ready else "UNAVAILABLE",
        "reason": reason,
    }
