"""Ports of metrics and health. They are the same at every start, so that a scraper finds them.

Each kind of service has its own range, see `FIRST`; the second selector gets the second port of the selectors' range.
If the port is taken, the service gets a free port, which `infaas status` shows. With `--metrics-port N` the services
get consecutive ports from N, in the order of `_ORDER`, and a taken port is an error. With `--metrics-port 0` all ports
are free ports.

A service listens some time after its port was found free; in between, a second system on this machine could find the
same port free. To prevent this, the finder binds a name with the port's number in the kernel's abstract socket
namespace. This namespace covers the same network namespace as the ports, and the kernel releases the name when the
process ends.
"""

import socket
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Final

from infaas.up.options import UpOptions
from process.sockets import claim_port, free_port
from schemas.errors import OperatorError

FIRST: Final = {
    "gateway": 18_100,
    "selector": 18_200,
    "autoscaler": 18_300,
    "jobs": 18_400,
    "workers": 18_500,
    "registrar": 18_600,
}
_ORDER: Final = ("autoscaler", "selector", "jobs", "gateway", "registrar", "workers")
"""Order in which services get consecutive ports with `--metrics-port N`."""


class MetricsPorts:
    """Ports of one system; each is reserved from the call of `find` until the context ends."""

    def __init__(self, options: UpOptions) -> None:
        self._options = options
        self._held: set[int] = set()
        self._names = ExitStack()

    def __enter__(self) -> "MetricsPorts":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._names.close()

    def check(self) -> None:
        """Check that the ports from `--metrics-port N` on are free, before anything is started.

        Raises:
            OperatorError: a port is taken or beyond the last port number.
        """
        if not self._options.metrics_port:
            return
        for service in _ORDER:
            there = self._options.first_workers if service == "workers" else self._options.count(service)
            for number in range(there):
                self.find(service, number)

    def find(self, service: str, number: int) -> int:
        """Return the port of a process, given its service and its index among the processes of that service.

        Raises:
            OperatorError: `--metrics-port N` determines the port, and it is taken.
        """
        first = self._options.metrics_port
        if first == 0:
            return free_port()
        if first is not None:
            before = _ORDER[: _ORDER.index(service)]
            position = sum(self._options.count(other) for other in before) + number
            return claim_port(first + position, "--metrics-port")
        port = FIRST[service] + number
        with suppress(OperatorError):
            if self._hold(port):
                return claim_port(port, "--metrics-port")
        return free_port()

    def _hold(self, port: int) -> bool:
        """Reserve the name of a port; returns true if this system holds it."""
        if port in self._held:
            return True
        name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            name.bind(f"\0infaas-metrics-port-{port}")
        except OSError:
            name.close()
            return False
        self._names.enter_context(name)
        self._held.add(port)
        return True
