"""Input files of batches, read line by line, and output files, written page by page. All methods block."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from gateway.openai.lines import AnsweredLine, read_line
from registry.artifacts import ArtifactStore
from schemas.errors import InvalidRequest, OperatorError
from schemas.openai import MOST_LINES, BatchError

_MOST_ERRORS: Final = 100
"""Errors of a file that are reported."""
LINES_AT_ONCE: Final = 200
_BYTES_AT_ONCE: Final = 4 * 1024 * 1024
"""Maximum number of lines that are read at once, and the bytes from which on no further line is read."""
_DIGEST: Final = 16


class CheckedFile(NamedTuple):
    """Result of the check of an input file."""

    total: int
    """Number of lines."""
    errors: list[BatchError]


class InputLines(NamedTuple):
    """Some consecutive lines of an input file."""

    lines: list[bytes]
    position: int
    """Byte at which the next line begins."""


class OutputFile(NamedTuple):
    """A finished output file."""

    sha256: str
    bytes: int
    lines: int


def check_file(file: Path, endpoint: str, most_line_bytes: int) -> CheckedFile:
    """Check every line of an input file: its form, its endpoint, and that its `custom_id` occurs once."""
    known, errors, position, number = set[bytes](), list[BatchError](), 0, 0
    while True:
        found = read_lines(file, position, most_line_bytes)
        if not found.lines:
            break
        position = found.position
        for line in found.lines:
            number += 1
            if len(errors) < _MOST_ERRORS and (error := _line_error(line, endpoint, most_line_bytes, known)):
                errors.append(BatchError(code="invalid_request", message=error, line=number))
        if number > MOST_LINES:
            errors.append(BatchError(code="too_many_lines", message=f"a batch has at most {MOST_LINES} lines"))
            break
    if not number:
        errors.append(BatchError(code="empty_file", message="the file has no lines"))
    return CheckedFile(number, errors)


def read_lines(file: Path, position: int, most_line_bytes: int, most: int = LINES_AT_ONCE) -> InputLines:
    """Read up to `most` lines from a byte on, without blank ones; a line of more than `most_line_bytes` is cut.

    Raises:
        OperatorError: the file cannot be read.
    """
    lines, size = list[bytes](), 0
    try:
        with file.open("rb") as content:
            content.seek(position)
            while len(lines) < most and size < _BYTES_AT_ONCE:
                line = content.readline(most_line_bytes + 1)
                if not line:
                    break
                size += len(line)
                if line.strip():
                    lines.append(line)
            return InputLines(lines, content.tell())
    except OSError as error:
        raise OperatorError(f"cannot read {file}: {error.strerror or error}") from error


def _line_error(line: bytes, endpoint: str, most_bytes: int, known: set[bytes]) -> str:
    if len(line) > most_bytes:
        return f"the line has more than {most_bytes} bytes"
    try:
        custom_id = read_line(line, endpoint).custom_id
    except InvalidRequest as error:
        return str(error)
    digest = blake2b(custom_id.encode(), digest_size=_DIGEST).digest()
    if digest in known:
        return f"$.custom_id: {custom_id[:80]!r} occurs more than once"
    known.add(digest)
    return ""


class BatchOutput:
    """The two output files of a batch while they are written."""

    def __init__(self, store: ArtifactStore, name: str, stack: ExitStack) -> None:
        self._files = [stack.enter_context(store.receiving(f"{kind} of {name}")) for kind in ("output", "errors")]
        self._bytes, self._lines = [0, 0], [0, 0]
        self.expired = False
        """True if a line was not computed because the completion window ended."""

    def write(self, lines: Iterator[AnsweredLine]) -> None:
        """Append lines."""
        for ok, text, expired in lines:
            place = 0 if ok else 1
            self.expired |= expired
            self._files[place].write(text)
            self._bytes[place] += len(text)
            self._lines[place] += 1

    @property
    def files(self) -> list[OutputFile]:
        """The file of answers and the file of errors."""
        found = zip(self._files, self._bytes, self._lines, strict=True)
        return [OutputFile(file.sha256, size, lines) for file, size, lines in found]

    def keep(self) -> None:
        """Store the files that have lines."""
        for file, lines in zip(self._files, self._lines, strict=True):
            if lines:
                file.keep()


@contextmanager
def writing_output(store: ArtifactStore, name: str) -> Generator[BatchOutput]:
    """Write output files; what is not kept at the end is deleted."""
    with ExitStack() as stack:
        yield BatchOutput(store, name, stack)
