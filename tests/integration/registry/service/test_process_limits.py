"""Tests of the resource limits of a registration's process."""

import signal

from tests.processes import output_of

ENDLESS = """
from registry.service.registration_process import limit_process
from registry.service.settings import RegistrarSettings
limit_process(RegistrarSettings(cpu_s=1))
while True:
    pass
"""


async def test_limit_process_ends_endless_computation() -> None:
    """A malicious file may cause an endless computation in native code, which only the kernel can stop."""
    assert await output_of("-c", ENDLESS, env={}) == (-signal.SIGXCPU, "")
