"""Pytest plugin that fails skipped tests if `CI` is set.

A CI machine can run every test, so a skip there would hide a defect.
"""

import os
from collections.abc import Generator
from typing import Any, TypeVar

import pytest

_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _unskipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _unskipped((yield))


def _unskipped(report: _Report) -> _Report:
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason: Any = report.longrepr
        report.longrepr = f"skipped in CI: {reason[2] if isinstance(reason, tuple) else reason}"
        report.outcome = "failed"
    return report
