"""Ports of metrics and health: the same at every start, so that who scrapes them finds them.

Each kind of service has a range of its own, see `FIRST`; the second selector has the second port of it. Where somebody
listens there already, the service takes a free port, and `infaas status` shows which. With `--metrics-port N` the ports
follow N, whichever service it is, and one that is taken is an error; with 0 all are free ones.

Between finding a port free and listening on it a service has to start, and a second system on this machine may find it
free meanwhile. So whoever takes one holds a name with its number in the kernel's abstract namespace of sockets, which
has the reach that ports have, and ends with us.
"""

import socket
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Final

from infaas.supervisor.options import UpOptions
from process.ports import claim_port, free_port
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
"""Order of the services that follow a port that was asked for."""


class MetricsPorts:
    """Ports of one system; held from when each is found until the context ends."""

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
        """Look whether those that follow a port which was asked for can be listened on, before anything is started.

        Raises:
            OperatorError: one of them is taken, or there is none of its number.
        """
        if not self._options.metrics_port:
            return
        for module in _ORDER:
            there = self._options.first_workers if module == "workers" else self._options.count(module)
            for number in range(there):
                self.find(module, number)

    def find(self, module: str, number: int) -> int:
        """The port of a service, by its module and its number among those of that module.

        Raises:
            OperatorError: that one was asked for, and it is taken.
        """
        first = self._options.metrics_port
        if first == 0:
            return free_port()
        if first is not None:
            before = _ORDER[: _ORDER.index(module)]
            position = sum(self._options.count(other) for other in before) + number
            return claim_port(first + position, "--metrics-port")
        port = FIRST[module] + number
        with suppress(OperatorError):
            if self._hold(port):
                return claim_port(port, "--metrics-port")
        return free_port()

    def _hold(self, port: int) -> bool:
        """Take the name of a port; returns whether it is ours."""
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
