import threading
import time
from collections.abc import Callable

from workers.batch_queue import Urgency
from workers.executor import BatchExecutor


class Tenant:
    """Computes its entries in order, noting when."""

    def __init__(self, device: BatchExecutor, log: list[str]) -> None:
        self.device = device
        self.work: list[tuple[Urgency, str]] = []
        self.log = log
        self.go = threading.Event()
        self.at_once = 0
        self.most_at_once = 0
        self.is_brief = False
        self.threads: set[int] = set()

    def add(self, urgency: Urgency, name: str) -> None:
        with self.device.lock:
            self.work.append((urgency, name))
            self.work.sort()

    def urgency(self) -> Urgency | None:
        return self.work[0][0] if self.work else None

    def brief(self) -> bool:
        return self.is_brief

    def plan(self) -> Callable[[int], None] | None:
        _urgency, name = self.work.pop(0)
        return lambda _slot: self.compute(name)

    def compute(self, name: str) -> None:
        self.threads.add(threading.get_ident())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.go.wait(5)
        self.log.append(name)
        self.at_once -= 1


def open_device(slots: int) -> tuple[BatchExecutor, list[BaseException]]:
    defects: list[BaseException] = []
    return BatchExecutor(slots, defects.append), defects


def test_online_goes_before_offline_and_the_earliest_deadline_first_across_tenants() -> None:
    device, defects = open_device(1)
    log: list[str] = []
    a, b = Tenant(device, log), Tenant(device, log)
    device.admit(a)
    device.admit(b)
    a.add((False, 0.0, 1), "first")
    device.wake()  # occupies the only slot until it may go
    a.add((True, 1.0, 2), "offline")
    a.add((False, 9.0, 3), "late")
    b.add((False, 3.0, 1), "early")
    device.wake()
    a.go.set()
    b.go.set()
    device.close()
    assert (log, defects) == (["first", "early", "late", "offline"], [])


def test_a_tenant_computes_one_batch_at_a_time_and_slots_work_side_by_side() -> None:
    device, _ = open_device(2)
    log: list[str] = []
    a, b = Tenant(device, log), Tenant(device, log)
    for tenant in (a, b):
        device.admit(tenant)
        for number in range(3):
            tenant.add((False, 1.0, number), f"{number}")
        device.wake()
    deadline = time.monotonic() + 60
    while not (a.at_once and b.at_once) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert (a.at_once, b.at_once) == (1, 1)
    a.go.set()
    b.go.set()
    device.close()
    assert len(log) == 6
    assert (a.most_at_once, b.most_at_once) == (1, 1)


def test_a_defect_is_reported() -> None:
    device, defects = open_device(1)

    class Broken(Tenant):
        def compute(self, name: str) -> None:
            raise RuntimeError(name)

    broken = Broken(device, [])
    device.admit(broken)
    broken.add((False, 1.0, 1), "defect")
    device.wake()
    device.close()
    assert [str(error) for error in defects] == ["defect"]


def test_the_time_that_slots_compute_is_counted_while_they_do() -> None:
    device, _ = open_device(1)
    tenant = Tenant(device, [])
    device.admit(tenant)
    assert device.busy_s == 0
    tenant.add((False, 1.0, 1), "held up")
    device.wake()
    began_s = time.perf_counter()
    while device.busy_s < 0.05:
        assert time.perf_counter() - began_s < 5
    tenant.go.set()
    device.close()
    done_s = device.busy_s
    assert 0.05 <= done_s < 5
    assert device.busy_s == done_s, "an idle slot adds nothing"


def test_the_dismissed_compute_no_more() -> None:
    device, _ = open_device(1)
    tenant = Tenant(device, [])
    device.admit(tenant)
    device.dismiss(tenant)
    tenant.add((False, 1.0, 1), "gone")
    device.wake()
    device.close()
    assert tenant.log == []


def test_a_brief_batch_is_computed_where_it_arrives_and_longer_work_behind_it_in_a_thread() -> None:
    device, defects = open_device(1)
    log: list[str] = []
    brief, long = Tenant(device, log), Tenant(device, log)
    brief.is_brief = True
    for tenant in (brief, long):
        tenant.go.set()
        device.admit(tenant)
    brief.add((False, 1.0, 1), "brief")
    long.add((False, 2.0, 2), "long")
    device.wake()
    device.close()
    assert (log, defects) == (["brief", "long"], [])
    assert brief.threads == {threading.get_ident()}
    assert threading.get_ident() not in long.threads


def test_a_brief_batch_leaves_its_slot_free() -> None:
    device, _ = open_device(1)
    log: list[str] = []
    tenant = Tenant(device, log)
    tenant.is_brief = True
    tenant.go.set()
    device.admit(tenant)
    for number in range(3):
        tenant.add((False, 1.0, number), str(number))
        device.wake()
    device.close()
    assert log == ["0", "1", "2"]
