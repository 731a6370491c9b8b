"""Test of `open_executor` for hardware without a worker."""

import pytest

from broker.kafka.settings import KafkaSettings
from registry.artifacts import ArtifactStore
from registry.builds.open_executor import BuildChoice, RegistryServices, open_executor
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.registrations import MissingWorkerPolicy
from store.pool import Pool


async def test_chosen_steps_refuse_to_skip_all_hardware(
    store_pool: Pool, kafka: KafkaSettings, artifacts: ArtifactStore
) -> None:
    services = RegistryServices(store_pool, kafka, artifacts, artifacts)
    choice = BuildChoice(if_no_worker=MissingWorkerPolicy.SKIP)
    notes: list[str] = []
    with pytest.raises(OperatorError, match="nothing is registered: there is no worker of cpu"):
        async with open_executor([Hardware.CPU], services, choice, notes.append):
            pass
