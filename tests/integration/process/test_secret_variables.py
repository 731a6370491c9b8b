"""Tests of removing secrets from the environment of a process."""

from tests.processes import output_of

PROGRAM = """
import os
import psutil
from pathlib import Path
from process.secret_variables import forget_secrets
assert "sesame" in Path("/proc/self/environ").read_text()
forget_secrets()
print("sesame" in Path("/proc/self/environ").read_text(), os.environ.get("INFAAS_POSTGRES"), os.environ["OTHER"])
print(os.popen("env").read().count("sesame"), psutil.Process().environ()["OTHER"])
"""


async def test_forget_secrets_removes_them_from_the_environment() -> None:
    dsn = "postgresql://u:sesame@h/d"  # pragma: allowlist secret
    env = {"INFAAS_POSTGRES": dsn, "AWS_SECRET_ACCESS_KEY": "sesame", "OTHER": "kept"}  # pragma: allowlist secret
    assert await output_of("-c", PROGRAM, env=env) == (0, "False None kept\n0 kept\n")
