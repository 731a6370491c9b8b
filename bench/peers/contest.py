"""Order of a run: one server after the other starts, is measured on its workloads, and stops; ours is last."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from bench.core.rounds import ROUNDS
from bench.core.system import SystemUnderTest
from bench.load.http_load import HttpLoad, LoadShape
from bench.load.http_message import infer_output
from bench.peers import ours
from bench.peers.peer import Peer, ServedFile
from bench.peers.running import answers, environment, running_peer
from bench.peers.trial import Contestant, Durations, Trial, measure_trial
from bench.peers.workloads import PeerWorkload, model_file, reference_check, reference_outputs

MIXES: Final = {"sentiment mix": "triton"}
"""Peer that serves a mix. The model of the other mix has a workload of its own, which all peers serve."""
CASCADED: Final = ("sentiment mix",)
"""Workloads that are measured once more with the cascades found by `infaas cascade`."""
_LOADED_S: Final = 120.0
_WARM_UP: Final = LoadShape(seconds=3.0, connections=16)


class Toolbox(msgspec.Struct, frozen=True):
    """Shared resources of all trials of a run."""

    client: Path
    """Compiled load client."""
    cache: Path
    durations: Durations
    say: Callable[[str, str], None]
    """Reports the server and the phase that are being measured."""


def serves(peer: Peer, workload: PeerWorkload) -> bool:
    """Return true if a peer is measured on a workload."""
    return len(workload.accuracies) == 1 or MIXES.get(workload.name) == peer.name


def ways_of_ours(workload: PeerWorkload, *, turned: bool = False) -> tuple[str, ...]:
    """Return the ways in which our system is queried; a mix is only queried by task.

    `turned` reverses the order if that is possible: registered cascades remain for all later trials.
    """
    if len(workload.accuracies) == 1:
        return ours.WAYS[::-1] if turned else ours.WAYS
    return (ours.BY_TASK, ours.BY_CASCADE) if workload.name in CASCADED else (ours.BY_TASK,)


class Wanted(msgspec.Struct, frozen=True):
    """Selection of a run's measurements."""

    workloads: list[PeerWorkload]
    peers: list[Peer]
    ours: bool
    rounds: int = ROUNDS

    @property
    def of_peers(self) -> list[tuple[Peer, PeerWorkload]]:
        """Trials of the peers, workload by workload."""
        return [(peer, workload) for workload in self.workloads for peer in self.peers if serves(peer, workload)]

    def of_ours(self, *, turned: bool = False) -> list[tuple[str, PeerWorkload]]:
        """Return the trials of our system; `turned` reverses the order within each workload."""
        ordered = [(way, each) for each in self.workloads for way in ways_of_ours(each, turned=turned)]
        return ordered if self.ours else []


async def measure_peer(peer: Peer, workload: PeerWorkload, tools: Toolbox, near: float | None) -> Trial:
    """Start a peer, measure it, beginning with the goodput of an earlier round if there was one, and stop it."""
    say = partial(tools.say, f"{workload.name}, {peer.name}")
    say("installing")
    python = await environment(peer, tools.cache / "environments")
    file = model_file(workload, tools.cache / "models")
    reference = reference_outputs(workload, file)
    settings = peer.heavy if workload.heavy else peer.light
    say("starting")
    async with running_peer(peer, python, ServedFile(file, workload.inputs[0]), settings, tools.client) as server:
        load = HttpLoad(tools.client, server.port, [peer.request(inputs) for inputs in workload.inputs])
        contestant = Contestant(peer.name, server.pid, load, reference_check(workload, reference, peer.output))
        return await measure_trial(contestant, workload, str(settings), tools.durations, say, near)


async def measure_ours(
    system: SystemUnderTest, way: str, workload: PeerWorkload, tools: Toolbox, near: float | None
) -> Trial:
    """Measure our running system, queried in one way, as a peer is measured."""
    say = partial(tools.say, f"{workload.name}, {way}")
    if way == ours.BY_CASCADE:
        say("finding cascades")
        await ours.register_cascades(system, workload.task)
    say("loading")
    port = ours.port_of(system)
    chosen = way in (ours.BY_TASK, ours.BY_CASCADE)
    requests = ours.task_requests(workload) if chosen else ours.pinned_requests(workload)
    by_http = HttpLoad(tools.client, port, requests)
    if not await answers(tools.client, port, requests, _LOADED_S):
        raise RuntimeError(f"ours does not answer {requests[0].path}")
    await by_http.run(_WARM_UP)
    check = partial(ours.check_choices, workload)
    if not chosen:
        reference = reference_outputs(workload, model_file(workload, tools.cache / "models"))
        check = reference_check(workload, reference, infer_output)
    load = ours.kafka_load(system, workload) if way == ours.BY_KAFKA else by_http
    contestant = Contestant(way, system.pid, load, check)
    return await measure_trial(contestant, workload, "default", tools.durations, say, near)
