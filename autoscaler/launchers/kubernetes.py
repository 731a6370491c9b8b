"""Workers as pods of a StatefulSet per hardware type, `worker-<hardware>`; only its number of replicas is changed.

Why StatefulSets: a worker needs a stable name, by which it regains its own leases at once after a restart on any node.
Pods of a Deployment have random names, so after each restart leases would have to expire. The price: pods are numbered
without gaps, so only the last one can be stopped. The decision respects that (`stops_highest`) and drains the last one.
The worker `cpu-3` is the pod `worker-cpu-3`.

Why only the scale: the autoscaler needs no other right than to read and set the size of these sets (docker/k8s/base).
The node's probes restart a pod that is not healthy; heartbeats tell the autoscaler if its worker is alive.

No worker is started twice: the number of replicas is written with the version that was read, and the API refuses it if
the set has changed since.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from pydantic_settings import BaseSettings, SettingsConfigDict

from autoscaler.launchers.base import LauncherError, WorkerTemplate, read_settings
from autoscaler.launchers.launched_worker import LaunchedWorker, LaunchState
from autoscaler.settings import AutoscalerSettings
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.names import hardware_of, number_of, worker_name

if TYPE_CHECKING:
    from kubernetes_asyncio.client import AppsV1Api, V1Scale

_CALL_S: Final = 5.0


class KubernetesSettings(BaseSettings):
    """Settings of the launcher, read from the environment: `INFAAS_KUBERNETES_*`."""

    model_config = SettingsConfigDict(
        env_prefix="INFAAS_KUBERNETES_", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    namespace: str = "infaas"
    """Namespace of the StatefulSets."""
    hardware: dict[Hardware, WorkerTemplate]
    """Sizes of their pods by hardware, as JSON (see `WorkerTemplate`) or one variable each: `..._HARDWARE__CPU`."""
    kubeconfig: Path | None = None
    """Path of a kubeconfig for access from outside; by default the service account of the pod."""


class KubernetesLauncher:
    """Launcher of pods whose StatefulSets exist in the cluster."""

    def __init__(self, settings: KubernetesSettings, api: "AppsV1Api") -> None:
        self.hardware = {
            hardware.value: template.hardware_type(hardware, stops_highest=True)
            for hardware, template in settings.hardware.items()
        }
        self._namespace = settings.namespace
        self._api = api
        self._one_at_a_time = asyncio.Lock()
        """Lock so that calls for several pods change the number one after the other."""

    async def running(self) -> list[LaunchedWorker]:
        """List the pods that are wanted, present or not, and surplus pods that are still present."""
        found: list[LaunchedWorker] = []
        for hardware in self.hardware:
            scale = await self._read(hardware)
            wanted, present = scale.spec.replicas or 0, scale.status.replicas if scale.status else 0
            found += [
                LaunchedWorker(
                    worker=worker_name(hardware, number), hardware=hardware, state=_state(number, wanted, present)
                )
                for number in range(max(wanted, present))
            ]
        return found

    async def start(self, hardware: str, worker: str) -> None:
        """Add the pod of this name if it is the next number; do nothing if it exists.

        Raises:
            LauncherError: it is not the next number; or the API is unreachable, refuses, or another writer was first.
        """
        number = number_of(worker)
        async with self._one_at_a_time:
            scale = await self._read(hardware)
            wanted = scale.spec.replicas or 0
            if number > wanted:
                raise _out_of_turn(f"start {worker} before {worker_name(hardware, wanted)}")
            if number == wanted:
                await self._write(hardware, scale, number + 1)

    async def stop(self, worker: str) -> None:
        """Remove the pod of this name if it is the last number; do nothing if it is absent.

        Raises:
            LauncherError: it is not the last number; or the API is unreachable, refuses, or another writer was first.
        """
        hardware, number = hardware_of(worker), number_of(worker)
        async with self._one_at_a_time:
            scale = await self._read(hardware)
            last = (scale.spec.replicas or 0) - 1
            if number < last:
                raise _out_of_turn(f"stop {worker} before {worker_name(hardware, last)}")
            if number == last:
                await self._write(hardware, scale, number)

    async def _read(self, hardware: str) -> "V1Scale":
        return await self._call(self._api.read_namespaced_stateful_set_scale, hardware)

    async def _write(self, hardware: str, scale: "V1Scale", replicas: int) -> None:
        scale.spec.replicas = replicas  # carries the version that was read, so that a change since then is a conflict
        await self._call(self._api.replace_namespaced_stateful_set_scale, hardware, scale)

    async def _call(self, method: Any, hardware: str, *body: Any) -> Any:
        from kubernetes_asyncio.client import ApiException

        name = f"worker-{hardware}"
        try:
            return await method(name, self._namespace, *body, _request_timeout=_CALL_S)
        except ApiException as error:
            raise LauncherError(f"StatefulSet {name} in {self._namespace}: {error.status} {error.reason}") from error
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise LauncherError(f"Kubernetes does not answer: {error or type(error).__name__}") from error


@asynccontextmanager
async def open_launcher(settings: AutoscalerSettings) -> AsyncGenerator[KubernetesLauncher]:
    """Open the launcher for the duration of the context.

    Raises:
        OperatorError: the client library is not installed, a setting is wrong, or the API has no known address.
    """
    if find_spec("kubernetes_asyncio") is None:
        raise OperatorError("the launcher `kubernetes` needs its client: pip install 'infaas[kubernetes]'")
    from kubernetes_asyncio import client, config

    own = read_settings(KubernetesSettings)
    way = client.Configuration()
    try:
        if own.kubeconfig is None:
            config.load_incluster_config(client_configuration=way)
        else:
            await config.load_kube_config(str(own.kubeconfig), client_configuration=way, persist_config=False)
    except config.ConfigException as error:
        raise OperatorError(
            f"no connection to the Kubernetes API: {error}; see INFAAS_KUBERNETES_KUBECONFIG"
        ) from error
    async with client.ApiClient(way) as connection:
        yield KubernetesLauncher(own, client.AppsV1Api(connection))


def _out_of_turn(what: str) -> LauncherError:
    return LauncherError(f"cannot {what}: pods are numbered without gaps")


def _state(number: int, wanted: int, present: int) -> LaunchState:
    if number >= wanted:
        return LaunchState.STOPPING
    return LaunchState.RUNNING if number < present else LaunchState.STARTING
