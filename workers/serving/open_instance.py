"""Instance of the kind that a loaded model needs."""

from typing import TypeAlias

from broker.delivery.consumer import Consumer
from runtimes.protocol import GenerativeSession
from workers.context import WorkerContext
from workers.serving.corrected_profile import CorrectedProfile
from workers.serving.generative_instance import GenerativeInstance
from workers.serving.instance import ServingInstance
from workers.serving.model import LoadedModel, ServableModel

Instance: TypeAlias = ServingInstance | GenerativeInstance


def open_instance(
    model: ServableModel,
    loaded: LoadedModel,
    online: Consumer,
    offline: Consumer,
    profile: CorrectedProfile,
    context: WorkerContext,
) -> Instance:
    """Return the instance of a model: one that makes answers token by token, or one that computes batches.

    A generative model that cannot be loaded has no such session: it fails queries as any other does.
    """
    if isinstance(loaded.session, GenerativeSession):
        return GenerativeInstance(model, loaded, online, offline, profile, context)
    return ServingInstance(model, loaded, online, offline, profile, context)
