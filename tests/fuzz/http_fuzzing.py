"""Run of schemathesis against a gateway, with valid and invalid requests made from its OpenAPI document.

It checks of every answer that it is no server error, that its status is in the document, and that its headers and body
match the document for this status. So an error that is not JSON, or has no message, is found like a 500. Most paths
contain names of real models, so that requests reach the code behind the name.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiohttp import ClientSession

_PATIENCE_S: Final = 120.0
"""Seconds beyond the time limit of a run after which it counts as hung."""
_BOUNDED: Final = "fuzzing"
"""Phase with a limited number of examples; the boundary values of the document alone make 2,500 requests."""
_CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
)
_SETTINGS: Final = """
request-timeout = 30.0
continue-on-failure = true
warnings = false

[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 503, 504]

[dictionaries.models]
values = {models}

[dictionaries.versions]
values = ["1", "2"]

[parameters]
"path.name" = {{ dictionary = "models", probability = 0.8 }}
"path.version" = {{ dictionary = "versions", probability = 0.8 }}
"""
"""Settings of schemathesis. 503 and 504 are answers to overload, and to a deadline that cannot be met."""


class FuzzReport(NamedTuple):
    """Result of a run."""

    requests: int
    operations: int
    """Number of tested operations of the document."""
    failures: int
    output: str
    """Output of schemathesis, with a command that reproduces each failure."""


async def fuzz_http(url: str, seed: int, *, seconds: int = 0, examples: int = 0) -> FuzzReport:
    """Fuzz the gateway at `url` for `seconds`, or with `examples` requests to each operation besides boundary values.

    Raises:
        TimeoutError: the run did not end.
        RuntimeError: the run did not begin.
    """
    with tempfile.TemporaryDirectory(prefix="infaas-fuzz-") as folder:
        settings, report = Path(folder) / "schemathesis.toml", Path(folder) / "report.json"
        settings.write_text(_SETTINGS.format(models=json.dumps(await _models(url))))
        enough = ["--max-time", str(seconds)] if seconds else ["--max-examples", str(examples), "--phases", _BOUNDED]
        output = await _run(folder, _command(url, settings, report, seed) + enough, seconds + _PATIENCE_S)
        if not report.exists():
            raise RuntimeError(f"schemathesis failed: {output[-2000:]}")
        return _read(json.loads(report.read_text()), output)


async def _models(url: str) -> list[str]:
    """Return the names of the models that can be queried."""
    async with ClientSession() as http, http.post(f"{url}/v2/repository/index", json={"ready": True}) as response:
        return sorted({model["name"] for model in await response.json()})


def _command(url: str, settings: Path, report: Path, seed: int) -> list[str]:
    command = [sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(settings)]
    command += ["run", f"{url}/openapi.json", "--checks", ",".join(_CHECKS), "--mode", "all", "--seed", str(seed)]
    command += ["--suppress-health-check", "all", "--generation-database", "none"]
    return [*command, "--report", "json", "--report-json-path", str(report)]


async def _run(folder: str, command: Sequence[str], patience_s: float) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(patience_s):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode(errors="replace")


def _read(report: dict[str, Any], output: str) -> FuzzReport:
    cases, operations = report["test_cases"], report["operations"] or {}
    failures = cases["with_failures"] + cases["errored"] + len(report["errors"])
    return FuzzReport(cases["generated"], operations.get("tested", 0), failures, output)
