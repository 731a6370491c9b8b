"""Exit codes and standard streams of the commands that simulate."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import typer

from infaas.cli.output import EXIT_QUERY, errors_for_people, report
from schemas.errors import InfaasError

EXIT_MISSED: Final = 1
"""An objective is missed, or a figure is worse than allowed."""


@contextmanager
def invalid_input() -> Generator[None]:
    """Turn errors of ours into lines of text and exit code 2; code 1 is that of a missed objective."""
    try:
        yield
    except (InfaasError, OSError, BaseExceptionGroup) as error:
        if found := errors_for_people(error):
            report(found)
            raise typer.Exit(EXIT_QUERY) from error
        raise


@contextmanager
def solver_silenced() -> Generator[None]:
    """Send what C libraries print on stdout to stderr: HiGHS prints a line, and stdout is for JSON."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
