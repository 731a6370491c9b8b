"""Tests of worker templates: the settings for a cluster's machines, and the environment of the workers there."""

from pathlib import Path

import pytest

from autoscaler.launchers.base import WorkerTemplate, read_settings, worker_environment
from autoscaler.launchers.ray.launcher import RaySettings
from autoscaler.launchers.registry import open_launcher
from autoscaler.settings import AutoscalerSettings
from schemas.errors import OperatorError
from schemas.hardware import SLOT_PRICE_PER_HOUR, Hardware
from workers.settings import WorkerSettings


def test_worker_environment_matches_hardware_type(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"INFAAS_KAFKA": "kafka:9092", "INFAAS_KAFKA_SASL_PASSWORD": "x", "OTEL_TRACES_EXPORTER": "otlp"}
    others = {"INFAAS_AUTOSCALER_INTERVAL_S", "INFAAS_JOBS_WEBHOOK_SECRET", "INFAAS_REGISTRAR_AT_ONCE"}
    others |= {"INFAAS_SIGNING_SECRET", "HOME"}
    for name, value in {**own, **dict.fromkeys(others, "1")}.items():
        monkeypatch.setenv(name, value)
    template = WorkerTemplate(maximum=3, cores=4, threads=2, memory_bytes=10**9, start_s=7)
    told = worker_environment(Hardware.CPU, "cpu-1", template, Path("/shared"))
    assert told.items() >= own.items()
    assert not told.keys() & others
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    settings, kind = WorkerSettings(), template.hardware_type(Hardware.CPU)
    assert (settings.worker, settings.hardware, settings.home) == ("cpu-1", "cpu", Path("/shared"))
    assert (settings.slots, settings.memory_bytes, settings.price) == (2, 10**9, 4 * SLOT_PRICE_PER_HOUR["cpu"])
    assert (kind.slots, kind.memory_bytes, kind.price_per_hour) == (2, 10**9, settings.price)
    assert (kind.maximum, kind.start_s) == (3, 7)


def test_worker_template_accelerator_is_one_slot() -> None:
    kind = WorkerTemplate(maximum=1, cores=8, memory_bytes=1, price_per_hour=2.5).hardware_type(Hardware.CUDA)
    assert (kind.slots, kind.price_per_hour) == (1, 2.5)


@pytest.mark.parametrize(
    ("hardware", "message"),
    [
        (None, "INFAAS_RAY_HARDWARE: Field required"),
        ('{"cpu": {"maximum": 2}}', "INFAAS_RAY_HARDWARE.CPU.MEMORY_BYTES: Field required"),
        ('{"cpu": {"maximum": 2, "memory_bytes": 1, "core": 4}}', "INFAAS_RAY_HARDWARE.CPU.CORE: Extra inputs"),
        ('{"tpu": {"maximum": 2, "memory_bytes": 1}}', "INFAAS_RAY_HARDWARE.TPU"),
        ('{"cpu": {"maximum": 2, "memory_bytes": 1, "cores": 2, "threads": 4}}', "threads 4 is more than cores 2"),
        ("cpu=2", "hardware"),
    ],
)
def test_read_settings_names_wrong_setting(monkeypatch: pytest.MonkeyPatch, hardware: str | None, message: str) -> None:
    if hardware is not None:
        monkeypatch.setenv("INFAAS_RAY_HARDWARE", hardware)
    with pytest.raises(OperatorError) as error:
        read_settings(RaySettings)
    assert message in str(error.value)


@pytest.mark.parametrize(("name", "module"), [("ray", "ray.launcher"), ("kubernetes", "kubernetes")])
async def test_open_launcher_names_missing_extra(monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    def find_nothing(package: str) -> None:
        assert package.startswith(name)

    monkeypatch.setattr(f"autoscaler.launchers.{module}.find_spec", find_nothing)
    with pytest.raises(OperatorError, match=rf"pip install 'infaas\[{name}\]'"):
        async with open_launcher(AutoscalerSettings(launcher=name)):
            pass
