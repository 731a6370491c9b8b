"""Tests of the Kubernetes manifests against schemas and the code, since no cluster runs where the tests run."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml

from autoscaler.launchers.base import read_settings
from autoscaler.launchers.kubernetes import KubernetesSettings
from autoscaler.settings import AutoscalerSettings
from broker.kafka.settings import KafkaSettings
from gateway.jobs.settings import JobsSettings
from gateway.settings import GatewaySettings
from process.signing import SigningSettings
from registry.service.settings import RegistrarSettings
from schemas.hardware import Hardware
from schemas.names import is_name
from selector.settings import SelectorSettings
from store.settings import StoreSettings
from workers.settings import WorkerSettings

ROOT = Path(__file__).parents[3] / "docker"
K8S = ROOT / "k8s"
OLDEST, NEWEST = "1.28", kubernetes_validate.latest_version()
Yaml = dict[str, Any]


def _load(path: Path) -> list[Yaml]:
    return [cast(Yaml, document) for document in yaml.safe_load_all(path.read_text())]


KUSTOMIZATIONS = {path.parent: _load(path)[0] for path in sorted(K8S.rglob("kustomization.yaml"))}
FILES = [path for path in sorted(K8S.rglob("*.yaml")) if path.name != "kustomization.yaml"]
OBJECTS = [(f"{path.relative_to(K8S)}:{one['kind']}", one) for path in FILES for one in _load(path)]
OURS = [pytest.param(one, id=name) for name, one in OBJECTS if not one["apiVersion"].startswith("keda.sh/")]
WORKLOADS = [pytest.param(one, id=name) for name, one in OBJECTS if one["kind"] in ("Deployment", "StatefulSet", "Job")]
WITH_IMAGES = (Hardware.CPU, Hardware.CUDA, Hardware.NEURON)
SETS = [one for _, one in OBJECTS if one["kind"] == "StatefulSet"]


def _one(kind: str, name: str) -> Yaml:
    return next(one for _, one in OBJECTS if one["kind"] == kind and one["metadata"].get("name") == name)


def _pod(workload: Yaml) -> Yaml:
    return workload["spec"]["template"]["spec"]


@pytest.mark.parametrize("one", OURS)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_manifests_match_published_schema(one: Yaml, version: str) -> None:
    kubernetes_validate.validate(one, version, strict=True)


def test_manifests_belong_to_a_kustomization() -> None:
    listed = {
        (folder / entry).resolve()
        for folder, kustomization in KUSTOMIZATIONS.items()
        for entry in kustomization.get("resources", [])
    }
    assert listed == {*FILES, K8S / "base"} - {K8S / "register-zoo.yaml"}


@pytest.mark.parametrize("workload", WORKLOADS)
def test_pods_meet_restricted_security_standard(workload: Yaml) -> None:
    """Pod security standard `restricted`; only the autoscaler has a token for the Kubernetes API."""
    pod = _pod(workload)
    assert (
        pod["securityContext"].items() >= {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}.items()
    )
    assert pod.get("automountServiceAccountToken", True) is (pod.get("serviceAccountName") == "autoscaler")
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} <= container["resources"].keys()
        assert "memory" in container["resources"]["limits"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_pods_that_generate_variants_have_volumes() -> None:
    """Quantisers write whole models to /tmp; the processes of a registrar write them to its home."""
    for workload in (*SETS, _one("Deployment", "registrar")):
        room = {volume["name"]: volume.get("emptyDir") for volume in _pod(workload)["volumes"]}
        assert room["home"] == {}, workload["metadata"]["name"]
        assert room["tmp"] == {} or workload["kind"] == "Deployment"


SECRETS = {
    str(field.validation_alias or f"{kind.model_config.get('env_prefix', '')}{name}".upper())
    for kind in (*(AutoscalerSettings, GatewaySettings, JobsSettings, SelectorSettings, WorkerSettings),
                 *(KafkaSettings, RegistrarSettings, SigningSettings, StoreSettings))
    for name, field in kind.model_fields.items()
    if "SecretStr" in str(field.annotation)
}  # fmt: skip


def test_manifests_only_reference_secrets() -> None:
    assert {"INFAAS_POSTGRES", "INFAAS_KAFKA_SASL_PASSWORD", "INFAAS_JOBS_WEBHOOK_SECRET"} <= SECRETS
    assert not SECRETS & _one("ConfigMap", "infaas")["data"].keys()
    for _, workload in OBJECTS:
        for container in _pod(workload)["containers"] if "template" in workload.get("spec", {}) else []:
            assert {"secretRef": {"name": "infaas"}} in container["envFrom"]
            assert not SECRETS & {entry["name"] for entry in container.get("env", []) if "value" in entry}


def test_files_component_patches_every_workload() -> None:
    (patch,) = KUSTOMIZATIONS[K8S / "files"]["patches"]
    paths = {operation["path"] for operation in yaml.safe_load(patch["patch"])}
    assert paths == {"/spec/template/spec/volumes/-", "/spec/template/spec/containers/0/volumeMounts/-"}
    for _, workload in OBJECTS:
        group, _, version = workload["apiVersion"].partition("/")
        targeted = version == patch["target"]["version"] and bool(re.fullmatch(patch["target"]["group"], group))
        assert targeted == (workload["kind"] in ("Deployment", "StatefulSet", "Job"))
        assert not targeted or len(_pod(workload)["containers"]) == 1


@pytest.mark.parametrize("workload", WORKLOADS)
def test_pods_run_existing_images_and_commands(workload: Yaml) -> None:
    targets = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for container in _pod(workload)["containers"]:
        assert container["image"].removeprefix("infaas/") in targets
        match container.get("command"):
            case ["python", "-m", str(module)]:
                assert find_spec(f"{module.removeprefix('infaas.')}.__main__") is not None
            case ["infaas", *_]:
                pass
            case other:
                assert other is None
                assert container["image"].startswith("infaas/worker-")


@pytest.mark.parametrize("workload", [one for one in WORKLOADS if "Job" not in str(one.id)])
def test_workloads_have_probes_and_disruption_budgets(workload: Yaml) -> None:
    pod, name = _pod(workload), workload["metadata"]["name"]
    assert pod["terminationGracePeriodSeconds"] > AutoscalerSettings().drain_timeout_s
    for container in pod["containers"]:
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] in ports
    labels = workload["spec"]["template"]["metadata"]["labels"]
    for selector in (workload["spec"]["selector"], _one("PodDisruptionBudget", name)["spec"]["selector"]):
        assert selector["matchLabels"].items() <= labels.items()


def test_autoscaler_role_allows_only_scaling_workers() -> None:
    assert {one["metadata"]["name"] for one in SETS} == {f"worker-{kind}" for kind in WITH_IMAGES}
    assert _one("Role", "scale-workers")["rules"] == [
        {
            "apiGroups": ["apps"],
            "resources": ["statefulsets/scale"],
            "resourceNames": [f"worker-{kind}" for kind in WITH_IMAGES],
            "verbs": ["get", "update"],
        }
    ]


def test_config_map_matches_resources_of_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, str] = _one("ConfigMap", "infaas")["data"]
    for folder in ("cuda", "neuron"):
        for patch in KUSTOMIZATIONS[K8S / folder]["patches"]:
            settings |= {op["path"].removeprefix("/data/"): op["value"] for op in yaml.safe_load(patch["patch"])}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert AutoscalerSettings().launcher == "kubernetes"
    assert KafkaSettings().replication_factor == 3
    offers = read_settings(KubernetesSettings).hardware
    for one in SETS:
        kind = Hardware(one["metadata"]["name"].removeprefix("worker-"))
        (container,) = _pod(one)["containers"]
        limits = container["resources"]["limits"]
        offer = offers.pop(kind)
        assert (str(offer.cores), f"{offer.memory_bytes // 2**30}Gi") == (limits["cpu"], limits["memory"])
        assert one["spec"].get("replicas") is None
        (name,) = [entry["value"] for entry in container["env"] if entry["name"] == "INFAAS_WORKERS_NAME"]
        assert name.replace("$(ORDINAL)", "7") == f"{kind}-7"
        assert is_name(f"{kind}-7")
    assert not offers


# -- KEDA --------------------------------------------------------------------------------------------------------------


def test_keda_objects_have_only_documented_fields() -> None:
    """KEDA publishes its schema only inside a cluster, so the test lists the fields of its reference, version 2.16."""
    scaled, known = _one("ScaledObject", "worker-cpu")["spec"], {one["metadata"]["name"] for one in SETS}
    documented = {
        *("scaleTargetRef", "pollingInterval", "initialCooldownPeriod", "cooldownPeriod", "idleReplicaCount"),
        *("minReplicaCount", "maxReplicaCount", "fallback", "advanced", "triggers"),
    }
    assert scaled.keys() <= documented
    target = scaled["scaleTargetRef"]
    assert (target["apiVersion"], target["kind"]) == ("apps/v1", "StatefulSet")
    assert target["name"] in known
    assert scaled["fallback"].keys() == {"failureThreshold", "replicas", "behavior"}
    assert scaled["fallback"]["behavior"] in ("static", "currentReplicas", "currentReplicasIfHigher")
    behavior = {"behavior": scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]}
    hpa = {"maxReplicas": 1, "scaleTargetRef": target, **behavior}
    metadata = {"name": "worker-cpu"}
    as_hpa = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": hpa}
    kubernetes_validate.validate(as_hpa, NEWEST, strict=True)
    authentication = _one("TriggerAuthentication", "infaas-postgres")
    assert authentication["spec"]["secretTargetRef"][0].keys() == {"parameter", "name", "key"}
    for trigger in scaled["triggers"]:
        assert trigger.keys() <= {"type", "name", "metadata", "authenticationRef", "metricType", "useCachedMetrics"}
        assert trigger["type"] == "postgresql"
        assert trigger["metricType"] == "AverageValue"  # the only metric type with a fallback
        assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
        assert trigger["metadata"].keys() <= {"query", "targetQueryValue", "activationTargetQueryValue"}
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
