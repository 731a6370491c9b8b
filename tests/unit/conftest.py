"""Rules of all unit tests: they start no process, and Hypothesis has profiles.

Examples have no deadline, because the machine may be busy, and are the same in each run: a change is not refused for a
defect that it does not have. The profile `quick` of `make check` tries a fifth of them; `long` hunts for rare ones.
"""

import os
import sys
from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=20)
settings.register_profile("long", deadline=None, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

_SERVERS = {"kafka", "quick_kafka", "embedded_kafka", "secured_kafka", "postgres_server", "postgres_dir"}
_STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
_unit_tests_running: list[str] = []


def _refuse_processes(event: str, _arguments: tuple[object, ...]) -> None:
    if _unit_tests_running and event in _STARTS:
        raise RuntimeError(f"{_unit_tests_running[-1]} starts a process: it belongs into tests/integration or system")


sys.addaudithook(_refuse_processes)


@pytest.fixture(autouse=True)
def _starts_nothing(request: pytest.FixtureRequest) -> Generator[None]:
    servers = _SERVERS.intersection(request.fixturenames)
    assert not servers, f"needs {', '.join(servers)}: it belongs into tests/integration"
    _unit_tests_running.append(request.node.nodeid)
    yield
    _unit_tests_running.pop()
