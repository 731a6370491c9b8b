"""Tests of messages for people: why a connection failed, and the last words of a child process."""

import socket
from pathlib import Path

import pytest

from process.errors import why_not_connected
from process.subprocesses import last_words

REFUSED = "[Errno 111] Connect call failed"
SEVERAL = OSError(f"Multiple exceptions: {REFUSED} ('::1', 9092), {REFUSED} ('127.0.0.1', 9092)")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "?"), "unknown host 'kafka.example': check its spelling"),
        (
            socket.gaierror(socket.EAI_AGAIN, "?"),
            "cannot look up host 'kafka.example': no DNS server answers; is the network up?",
        ),
        (ConnectionRefusedError(111, "Connect call failed"), "nobody listens at kafka.example:9092"),
        (SEVERAL, "nobody listens at kafka.example:9092"),
        (TimeoutError(), "kafka.example:9092 does not answer"),
        (OSError(113, "No route to host"), "kafka.example:9092: [Errno 113] No route to host"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, OSError) else "",
)
def test_why_not_connected_names_the_wrong_part_of_an_address(error: OSError, words: str) -> None:
    assert why_not_connected("kafka.example", 9092, error) == words


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", ""),
        ("12:00 INFO started\nValueError: 3 is odd\n\n", "ValueError: 3 is odd"),
        ("  | ExceptionGroup: 1\n    | KeyError: 'a'\n    +--------", "KeyError: 'a'"),
        ("first\n" + "word " * 1000, "word " * 400),
    ],
)
def test_last_words_are_the_last_line_with_words(log: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text(log)
    assert last_words(file) == words.strip()


def test_last_words_leave_out_what_was_written_before(tmp_path: Path) -> None:
    file = tmp_path / "log"
    assert last_words(file) == ""
    file.write_text("of another process\n")
    begin = file.stat().st_size
    assert last_words(file, begin) == ""
    with file.open("a") as log:
        log.write("of this one\n")
    assert last_words(file, begin) == "of this one"
