"""Tests of what a process imports at its start: heavy libraries only where they are used."""

import subprocess
import sys

import pytest

AIOHTTP = "aiohttp"
CRYPTOGRAPHY = "cryptography"
NUMPY = "numpy"
KAFKA = "aiokafka"
SQL = "sqlalchemy"
TRACES = "opentelemetry"
TABLE = [
    ("selector.service", {CRYPTOGRAPHY, NUMPY, SQL, TRACES, "psutil", "uvloop", "registry"}),
    ("workers.service", {CRYPTOGRAPHY, SQL, TRACES, "onnx", "onnxruntime"}),
    ("autoscaler.service", {CRYPTOGRAPHY, SQL, "highspy"}),
    ("gateway.jobs.service", {CRYPTOGRAPHY, NUMPY, SQL, "psutil", "registry"}),
    ("gateway.service", {CRYPTOGRAPHY, SQL, TRACES, "grpc", "jinja2", "jwt", "psutil"}),
    ("registry.service.service", {CRYPTOGRAPHY, NUMPY, SQL, "psutil", "runtimes"}),
    ("registry.pipeline.step_process", {AIOHTTP, "asyncio", KAFKA, SQL, "asyncpg", "onnx", "pydantic", "ssl"}),
    ("infaas.cli.main", {AIOHTTP, KAFKA, NUMPY, "asyncpg", "pydantic_settings"}),
    ("infaas.cli.keys", {CRYPTOGRAPHY, KAFKA, NUMPY, SQL, "confluent_kafka", "prometheus_client", "runtimes"}),
    ("infaas.cli.status", {CRYPTOGRAPHY, NUMPY, SQL, "autoscaler", "confluent_kafka", "gateway", "runtimes"}),
]
"""Modules at which a process starts, and packages that it must not import before it needs them."""


@pytest.mark.parametrize(("module", "unwanted"), TABLE, ids=[module for module, _ in TABLE])
def test_process_imports_at_start(module: str, unwanted: set[str]) -> None:
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    started = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert not unwanted & set(started.stdout.split())
