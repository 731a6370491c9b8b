"""The command line of a machine where nothing runs."""

from tests.unit.infaas.conftest import shell

__all__ = ["shell"]
