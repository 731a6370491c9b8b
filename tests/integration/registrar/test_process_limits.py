"""What the process of a registration may take."""

import signal

from tests.processes import output_of

ENDLESS = """
from registrar.process_limits import limit_process
from registrar.settings import RegistrarSettings
limit_process(RegistrarSettings(cpu_s=1))
while True:
    pass
"""


async def test_what_computes_without_end_ends() -> None:
    """As a file may have it do that is made for that, in code that nothing else can stop."""
    assert await output_of("-c", ENDLESS, env={}) == (-signal.SIGXCPU, "")
