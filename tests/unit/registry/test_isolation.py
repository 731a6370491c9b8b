"""Tests of the environment that a step's process inherits."""

import pytest

from registry.pipeline.isolation import ENV, step_environment

SECRETS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "DATABASE_URL", "GITHUB_TOKEN", "HF_TOKEN",
    "HTTPS_PROXY", "HUGGING_FACE_HUB_TOKEN", "INFAAS_JOBS_WEBHOOK_SECRET", "INFAAS_KAFKA_SASL_PASSWORD", "INFAAS_KEY",
    "INFAAS_POSTGRES", "INFAAS_SIGNING_SECRET", "INFAAS_SIGNING_SECRET_FILE", "NVIDIA_API_KEY", "PGPASSFILE",
    "PGPASSWORD", "TF_TOKEN_app_terraform_io",
)  # fmt: skip
NEEDED = (
    "CUDA_VISIBLE_DEVICES", "HF_HOME", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "LD_PRELOAD", "MKL_NUM_THREADS",
    "NEURON_RT_VISIBLE_CORES", "NVIDIA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OV_CACHE_DIR", "PATH", "PYTHONPATH",
    "TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_HOME", "TZ",
)  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_step_environment_removes_secrets(name: str) -> None:
    assert step_environment({name: "sesame", "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize("name", NEEDED)
def test_step_environment_keeps_library_variables(name: str) -> None:
    assert step_environment({name: "x"}) == {name: "x"}


def test_step_environment_keeps_names_given_by_operator() -> None:
    environment = {"LM_LICENSE_FILE": "1", "VENDOR_A": "2", "VENDORS": "3", ENV: "LM_LICENSE_FILE, VENDOR_*"}
    assert step_environment(environment) == {"LM_LICENSE_FILE": "1", "VENDOR_A": "2"}
