"""A thread that lets others go first."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

from process.priority import lower_priority


def nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_lowers_its_priority_and_the_others_stay_as_they_are() -> None:
    before = nice()
    with ThreadPoolExecutor(1, initializer=lower_priority) as pool:
        assert pool.submit(nice).result() >= 10
    assert nice() == before
