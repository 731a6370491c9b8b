"""Baselines: other systems' decisions on the same simulated workers, each with its source and its differences from it.

Reading order: base (what all share), priced_profile, replica, fleet -> static -> one_variant, individual, ray_serve,
keda -> infaas, infaas_code, health_bit -> proteus, accuracy_program, proactive_queue -> slackfit, supernet ->
replica_choice.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from simulator.baselines.individual import IndividualSystem
from simulator.baselines.infaas import PublishedInfaasSystem
from simulator.baselines.infaas_code import PrototypeInfaasSystem
from simulator.baselines.keda import KedaSystem
from simulator.baselines.proteus import ProteusSystem
from simulator.baselines.ray_serve import RayServeSystem
from simulator.baselines.replica_choice import PrequalSelector, ShortestQueueSelector
from simulator.baselines.slackfit import SlackFitSystem
from simulator.baselines.static import StaticSystem
from simulator.services.infaas import InfaasSystem
from simulator.system import SimulatedSystem, SimulationContext

BASELINES: Final[Mapping[str, Callable[[SimulationContext], SimulatedSystem]]] = {
    "individual": IndividualSystem,
    "infaas-paper": PublishedInfaasSystem,
    "infaas-code": PrototypeInfaasSystem,
    "keda": KedaSystem,
    "prequal": partial(InfaasSystem, selector=PrequalSelector),
    "proteus": ProteusSystem,
    "proteus-fleet": partial(ProteusSystem, whole_cluster=False),
    "ray-serve": RayServeSystem,
    "shortest-queue": partial(InfaasSystem, selector=ShortestQueueSelector),
    "slackfit": SlackFitSystem,
    "slackfit-fixed": partial(SlackFitSystem, scaled=False),
    "static": StaticSystem,
    "static-mean": partial(StaticSystem, peak=False),
}
"""Baselines by name; each value makes the system of one simulation."""
