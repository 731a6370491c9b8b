"""Tests of the Docker files against the code, since images cannot be built where the tests run."""

import re
import runpy
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import yaml

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
COMPOSE = cast(dict[str, Any], yaml.safe_load((ROOT / "docker/compose.yaml").read_text()))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_dockerfile_copies_every_package() -> None:
    packages: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["packages"]
    zoo = ["packages/zoo"]  # a separate distribution, built in its own stage
    assert re.findall(r"^COPY ([\w/]+) /src/\1$", DOCKERFILE, re.MULTILINE) == packages + zoo


def test_dockerfile_targets_run_without_privileges() -> None:
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n((?:(?!FROM).*\n?)*)", DOCKERFILE, re.MULTILINE))
    targets = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert targets == {"services", "worker-cpu", "worker-gpu", "worker-neuron"}
    for target in (*targets, "ray"):
        assert "\nUSER 10001\n" in stages[target], target
        assert "HEALTHCHECK" in stages[target], target


def test_compose_commands_exist() -> None:
    for name, service in SERVICES.items():
        match service.get("command"):
            case ["python", "-m", str(module)]:
                assert find_spec(f"{module.removeprefix('infaas.')}.__main__") is not None, name
            case ["infaas", *_]:
                pass
            case None | [str(), *_] if name == "prometheus":
                pass
            case None:
                assert name in ("kafka", "postgres", "grafana", "jaeger")
            case other:
                raise AssertionError(f"{name}: {other}")


def test_every_service_is_composed_and_deployed() -> None:
    packages: list[str] = PROJECT["tool"]["importlinter"]["root_packages"]
    services = {package for package in packages if (ROOT / package / "service.py").exists()}
    assert {"gateway", "selector", "workers"} <= services
    modules = {*services, "gateway.jobs", "registry.service"}
    commands = {command[2] for one in SERVICES.values() if (command := one.get("command", [""]))[0] == "python"}
    assert commands == {f"infaas.{module}" for module in modules}
    listed = (ROOT / "docker/k8s/base/kustomization.yaml").read_text()
    assert {*services, "jobs", "registrar"} <= set(re.findall(r"^  - (\w+)\.yaml$", listed, re.MULTILINE))
    started = re.findall(r"^ *for module in (.*); do$", (ROOT / "docker/images.sh").read_text(), re.MULTILINE)
    assert started
    assert all({*line.split(), "workers"} == modules for line in started)


def test_compose_services_have_health_checks() -> None:
    for name, service in SERVICES.items():
        own = "healthcheck" in service
        assert own or "build" in service, name


def test_compose_volumes_are_declared() -> None:
    mounted = {str(volume).partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    files = {path for path in mounted if path.startswith("./")}
    assert mounted - files == set(COMPOSE["volumes"])
    assert all((ROOT / "docker" / path).exists() for path in files)


def test_compose_volumes_belong_to_user_of_image() -> None:
    """A named volume takes its owner from the image's folder; without such a folder it belongs to root."""
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n((?:(?!FROM).*\n?)*)", DOCKERFILE, re.MULTILINE))
    bases = {stage: base for base, stage in re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)}
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []) if "build" in service else []:
            folder, stage = str(volume).split(":")[1], service["build"]["target"]
            text = stages[stage] + stages.get(bases[stage], "")
            owned = (
                f"--home-dir {folder} --create-home infaas" in text or f"--owner=infaas --group=infaas {folder}" in text
            )
            assert owned, f"{name}: {folder} is root's in the image {stage}"


def test_dashboard_is_that_of_its_program() -> None:
    program = runpy.run_path(str(ROOT / "docker/monitoring/dashboards.py"))
    assert program["FILE"].read_text() == program["encoded"]()
