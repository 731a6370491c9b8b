"""Back-off between restarts of a process."""

from infaas.up.processes import STABLE_S, RestartBackoff


def test_restart_backoff_grows_until_a_process_is_stable() -> None:
    now_s = 0.0
    backoff = RestartBackoff(lambda: now_s)
    backoff.started()
    assert backoff.quick_ends == 0
    assert [backoff.ended() for _ in range(7)] == [0, 0.5, 1, 2, 4, 8, 10]
    now_s += 2 * STABLE_S
    assert backoff.quick_ends == 7, "no process has run meanwhile"
    backoff.started()
    now_s += STABLE_S
    assert backoff.quick_ends == 7
    now_s += 1.0
    assert backoff.quick_ends == 0
    assert backoff.ended() == 0
    assert backoff.quick_ends == 1
