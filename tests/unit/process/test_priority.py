"""Tests of `lower_priority`: a thread with a lower priority than the others."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

from process.priority import lower_priority


def nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_lower_priority_affects_only_its_thread() -> None:
    before = nice()
    with ThreadPoolExecutor(1, initializer=lower_priority) as pool:
        assert pool.submit(nice).result() >= 10
    assert nice() == before
