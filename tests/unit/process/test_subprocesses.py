"""Tests of the quotes from the log of a child process."""

from pathlib import Path

import pytest

from process.subprocesses import last_words


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
