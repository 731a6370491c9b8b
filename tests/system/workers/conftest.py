"""The site of the worker's own tests, for workers that are processes."""

from tests.integration.workers.conftest import producer, site

__all__ = ["producer", "site"]
