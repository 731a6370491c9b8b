"""Models: their versions and rollouts, their variants with reasons of refusal, registrations, and unregistering."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from admin.catalog import ListedModel, ListedVariant, models, variants
from admin.registrations import cancel as cancel_registration
from admin.registrations import list_all as list_registrations
from admin.registrations import show as show_registration
from admin.removals import begin, plan
from admin.removals import status as show_removal
from admin.versions import RolloutChanged, history, rollback, rollout
from gateway.console.page import Act, ActOutcome, Page, paged
from gateway.console.visit import Visit
from schemas.access import Role
from schemas.registrations import RegistrationStatus
from schemas.rows.catalog import VariantState
from schemas.rows.removals import Removal

_REGISTRATIONS: Final = 8
_ACTIONS: Final = "/console/models"


class ModelSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Model in the list of models."""

    model: str
    task: str
    versions: int
    access: str
    ready: int
    refused: int
    accuracy: float | None
    """Of its best variant that is ready."""


def summarize_models(rows: Iterable[ListedModel], listed: Iterable[ListedVariant]) -> list[ModelSummary]:
    """Return one entry for each model, by task and name. Pure."""
    versions, of_version = dict[str, list[ListedModel]](), dict[str, list[ListedVariant]]()
    for row in rows:
        versions.setdefault(row.model, []).append(row)
    for one in listed:
        of_version.setdefault(one.variant.architecture, []).append(one)
    found = [_summary(of_model, [v for row in of_model for v in of_version.get(row.name, ())])
             for of_model in versions.values()]  # fmt: skip
    return sorted(found, key=lambda one: (one.task, one.model))


def _summary(of_model: list[ListedModel], listed: list[ListedVariant]) -> ModelSummary:
    states = Counter(one.variant.state for one in listed)
    accuracies = [one.profile.accuracy for one in listed if one.profile and one.variant.state is VariantState.READY]
    return ModelSummary(
        model=of_model[0].model,
        task=of_model[0].task,
        versions=len(of_model),
        access=str(of_model[0].access),
        ready=states[VariantState.READY],
        refused=states[VariantState.REFUSED],
        accuracy=max(accuracies, default=None),
    )


async def _load(visit: Visit) -> dict[str, Any]:
    rows = await visit.call(models)
    found = summarize_models(rows, await visit.call(variants) if rows else [])
    publishes = visit.may(list_registrations)
    return {
        **paged(visit, "models", found),
        "registrations": await visit.call(list_registrations, limit=_REGISTRATIONS) if publishes else [],
        "publishes": publishes,
        "tasks": sorted({row.task for row in rows}),
    }


async def _load_model(visit: Visit) -> dict[str, Any]:
    name = visit.request.match_info["model"]
    found = await visit.call(history, model=name)
    version_of = {row.name: row.version for row in found.versions}
    listed = [
        one for one in await visit.call(variants, task=found.versions[0].task) if one.variant.architecture in version_of
    ]
    listed.sort(key=lambda one: (-version_of[one.variant.architecture], one.variant.state, one.variant.name))
    return {
        "history": found,
        "name": name,
        "version_of": version_of,
        **paged(visit, "versions", list(found.versions[::-1])),
        **paged(visit, "variants", listed),
        "events": found.events[::-1][:10],
        "publishes": visit.may(rollout),
    }


async def _load_plan(visit: Visit) -> dict[str, Any]:
    return {"plan": await visit.call(plan, name=visit.text("name"))}


async def _load_removal(visit: Visit) -> dict[str, Any]:
    return {"removal": await visit.call(show_removal, id=visit.request.match_info["id"])}


async def _load_registration(visit: Visit) -> dict[str, Any]:
    found = await visit.call(show_registration, id=visit.request.match_info["id"])
    return {"registration": found, **paged(visit, "made", list(found.made))}


def _tell_rollout(changed: RolloutChanged) -> ActOutcome:
    rollout_now = changed.history.rollout
    text = f"Version {rollout_now.serving} of {rollout_now.model} serves."
    if rollout_now.candidate is not None:
        text += f" Version {rollout_now.candidate} answers {rollout_now.share:.0%}, copies {rollout_now.shadow:.0%}."
    return ActOutcome(" ".join([text, *changed.warnings]))


def _tell_removal(removal: Removal) -> ActOutcome:
    link = f"/console/removals/{removal.id}"
    return ActOutcome(f"The removal of {removal.name} has begun.", link=link, link_text="Follow it")


def _tell_cancelled(registration: RegistrationStatus) -> ActOutcome:
    return ActOutcome(f"Registration of {registration.name} is {registration.state}.")


PAGES: Final = (
    Page(
        path=_ACTIONS,
        title="Models",
        template="models.html",
        load=_load,
        live=("registrations", "models"),
        menu="Models",
    ),
    Page(
        path="/console/models/{model}",
        title="Model",
        template="model.html",
        load=_load_model,
        live=("rollout", "variants", "events"),
    ),
    Page("/console/removal-plan", "Unregister", "removal_plan.html", _load_plan, role=Role.PUBLISH),
    Page("/console/removals/{id}", "Removal", "removal.html", _load_removal, live=("removal",), role=Role.PUBLISH),
    Page(
        path="/console/registrations/{id}",
        title="Registration",
        template="registration.html",
        load=_load_registration,
        live=("registration",),
        role=Role.PUBLISH,
    ),
)
ACTS: Final = (
    Act("/console/models/rollout", rollout, _tell_rollout),
    Act("/console/models/rollback", rollback, _tell_rollout),
    Act("/console/removals/begin", begin, _tell_removal),
    Act("/console/registrations/cancel", cancel_registration, _tell_cancelled),
)
