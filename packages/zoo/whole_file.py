"""Files of the cache, which are complete or absent: each is written beside its place, and then renamed.

Processes that write the same file at once each write their own copy. The copies are equal, and the last one stays.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from schemas.errors import OperatorError


@contextmanager
def whole_file(file: Path) -> Generator[Path]:
    """Yield a path to write to; at the end it is renamed to `file`, or deleted after an error. Creates the folder.

    Raises:
        OperatorError: the file cannot be written.
    """
    partial = file.with_name(f"{file.name}.{uuid4().hex}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, file)
    except OSError as error:
        raise OperatorError(f"cannot write {file}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
