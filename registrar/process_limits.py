"""What the process of a registration may take of the machine, so that no file of a stranger's costs more.

Its steps, processes of their own, have limits of their own.
"""

import resource

from process.memory import free_memory
from registrar.settings import RegistrarSettings


def limit_process(settings: RegistrarSettings) -> None:
    """Limit this process; what it starts may lift that."""
    most = settings.memory_bytes or free_memory() // 2
    for kind, limit in ((resource.RLIMIT_DATA, most), (resource.RLIMIT_CPU, settings.cpu_s)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
