"""Resource limits of a registration's process, so that no uploaded file can exhaust the machine.

The steps of a registration run in child processes with limits of their own (`registry.pipeline.isolation`).
"""

import resource

from process.memory import free_memory
from registrar.settings import RegistrarSettings


def limit_process(settings: RegistrarSettings) -> None:
    """Set the memory and CPU limits of this process. They are soft limits: a child process may raise them."""
    most = settings.memory_bytes or free_memory() // 2
    for kind, limit in ((resource.RLIMIT_DATA, most), (resource.RLIMIT_CPU, settings.cpu_s)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
