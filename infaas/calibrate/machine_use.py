"""CPU time that a system of `infaas up` and this program use, and the use of the machine by all programs."""

import os
from contextlib import suppress

import psutil

from process.cpus import MachineShare
from simulator.calibration.measured_settings import CpuUse


class MachineUse:
    """Use of this machine from now on."""

    def __init__(self, supervisor: int) -> None:
        """`supervisor` is the process id of `infaas up`, the ancestor of all other processes of the system."""
        self._supervisor = supervisor
        self._share = MachineShare()
        self._began_s = self._system_s()

    def read(self) -> CpuUse:
        """Return the use since the begin."""
        return CpuUse(cpus=os.cpu_count() or 1, used=self._share(), system_s=self._system_s() - self._began_s)

    def _system_s(self) -> float:
        """Return the CPU seconds of the living processes of the system, and of this one."""
        seconds = 0.0
        with suppress(psutil.NoSuchProcess):
            supervisor = psutil.Process(self._supervisor)
            for process in (psutil.Process(), supervisor, *supervisor.children(recursive=True)):
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    seconds += times.user + times.system
        return seconds
