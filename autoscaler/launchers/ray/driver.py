"""Child process through which the autoscaler calls Ray: `python -m autoscaler.launchers.ray.driver`.

It reads requests from standard input, one JSON object per line, and answers each with one line; the first request
connects. It ends with its input. See `autoscaler.launchers.ray.launcher` for the reason of a separate process.

A worker is a detached actor, which survives the process that created it. The actor has the worker's name, in the
system's namespace. Ray allows a name once: creating an actor of an existing name returns the existing one.
"""

import logging
import os
import sys
from typing import Any, Final

import msgspec
import ray
import ray.util
from ray.exceptions import ActorDiedError, RayError

from autoscaler.launchers.launched_worker import LaunchedWorker, LaunchState
from autoscaler.launchers.ray.actor import RayWorker
from autoscaler.launchers.ray.launcher import (
    ConnectRequest,
    DriverReply,
    DriverRequest,
    ListRequest,
    StartRequest,
    StopRequest,
)
from process.logs import configure_logging, said_format
from schemas.names import hardware_of

log = logging.getLogger(__name__)

_ANSWERS_S: Final = 0.2
"""Seconds in which actors must report their states; others keep their last known state."""
_FIRST_ANSWER_S: Final = 2.0
"""Seconds in which an actor that never answered must report, before it counts as not started."""


class RayDriver:
    """Driver of the cluster: executes requests one after the other."""

    def __init__(self) -> None:
        self._namespace = ""
        self._actors: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}
        """Unanswered state calls, one per actor, because an actor that is not scheduled yet queues every call."""
        self._known: dict[str, tuple[LaunchState, str]] = {}

    def handle(self, request: DriverRequest) -> DriverReply:
        """Execute one request. Errors of Ray are returned in the reply."""
        try:
            match request:
                case ConnectRequest():
                    self._connect(request)
                case ListRequest():
                    return DriverReply(launched=self._list())
                case StartRequest():
                    self._start(request)
                case StopRequest():
                    self._stop(request.worker)
        except (RayError, OSError, RuntimeError, ValueError) as error:
            return DriverReply(error=str(error).partition("\n")[0] or type(error).__name__)
        return DriverReply()

    def _connect(self, request: ConnectRequest) -> None:
        self._namespace = request.namespace
        ray.init(address=request.address, namespace=request.namespace, log_to_driver=False)

    def _list(self) -> list[LaunchedWorker]:
        actors: list[Any] = ray.util.list_named_actors(all_namespaces=True)  # annotated list[str], but yields dicts
        names = sorted(actor["name"] for actor in actors if actor["namespace"] == self._namespace)
        for gone in self._actors.keys() - set(names):
            self._forget(gone)
        self._ask(names, _ANSWERS_S)
        return [self._launched(name) for name in names]

    def _start(self, request: StartRequest) -> None:
        if self._known.get(request.worker, (None, ""))[0] is LaunchState.FAILED:
            self._kill(request.worker)
        devices = dict(request.devices)
        actor = ray.remote(RayWorker).options(
            name=request.worker, namespace=self._namespace, lifetime="detached", get_if_exists=True,
            num_cpus=request.cores, memory=request.memory_bytes, num_gpus=devices.pop("GPU", 0), resources=devices,
            scheduling_strategy="SPREAD",
        )  # fmt: skip
        self._actors[request.worker] = actor.remote(request.environment, request.log)

    def _stop(self, worker: str) -> None:
        try:
            actor = self._actor(worker)
        except ValueError:  # already gone
            return
        if worker not in self._known:
            self._ask([worker], _FIRST_ANSWER_S)
        if worker in self._known and self._known[worker][0] is not LaunchState.FAILED:
            actor.stop.remote()
        else:
            self._kill(worker)

    def _kill(self, worker: str) -> None:
        ray.kill(self._actor(worker))
        self._forget(worker)

    # -- what is known of the actors -----------------------------------------------------------------------------------

    def _actor(self, worker: str) -> Any:
        if worker not in self._actors:
            self._actors[worker] = ray.get_actor(worker, self._namespace)
        return self._actors[worker]

    def _ask(self, names: list[str], limit_s: float) -> None:
        if not names:
            return
        for name in names:
            if name not in self._asked:
                self._asked[name] = self._actor(name).state.remote()
        answers = {self._asked[name]: name for name in names}
        answered, _ = ray.wait(list(answers), num_returns=len(answers), timeout=limit_s)
        for answer in answered:
            self._on_answer(answers[answer], answer)

    def _on_answer(self, name: str, answer: Any) -> None:
        del self._asked[name]
        try:
            state, reason = ray.get(answer)
            self._known[name] = LaunchState(state), reason
        except ActorDiedError as error:  # another actor may have its name already
            log.warning("worker %s: %s", name, error)
            self._forget(name)
        except RayError as error:  # unreachable: keep its last state until Ray declares the node dead
            log.warning("worker %s does not answer: %s", name, error)

    def _forget(self, name: str) -> None:
        for remembered in (self._actors, self._asked, self._known):
            remembered.pop(name, None)

    def _launched(self, name: str) -> LaunchedWorker:
        state, reason = self._known.get(name, (LaunchState.STARTING, ""))
        return LaunchedWorker(worker=name, hardware=hardware_of(name), state=state, reason=reason)


def main() -> None:
    """Answer requests until the input ends."""
    configure_logging("WARNING", said_format())
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # keeps Ray's own output out of the replies
    driver, decoder = RayDriver(), msgspec.json.Decoder(DriverRequest)
    for line in sys.stdin.buffer:
        replies.write(msgspec.json.encode(driver.handle(decoder.decode(line))) + b"\n")


if __name__ == "__main__":
    main()
