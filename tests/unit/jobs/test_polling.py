"""Tests of `IdlePause`: pauses between polls."""

from jobs.polling import IdlePause


def test_idle_pause_doubles_while_nothing_is_found() -> None:
    pause = IdlePause(0.5)
    assert [pause.after(found) for found in (False,) * 6] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert [pause.after(found) for found in (True, False, False, True)] == [0.5, 1.0, 2.0, 0.5]
