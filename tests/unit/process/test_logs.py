"""Tests of logs: text for people or JSON for programs, and one message per outage."""

import io
import json
import logging
import sys

import pytest

from process.logs import LogFormat, ServiceLogHandler, configure_logging
from process.outages import FailureLog, Outage


@pytest.fixture
def log() -> logging.Logger:
    """Return a logger that pytest does not capture: a report with lone surrogates cannot pass between processes."""
    return logging.Logger("broker.tests")


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    monkeypatch.setattr("process.outages._all", [])
    made = Outage("Kafka", (ConnectionError,), ("broker.",))
    monkeypatch.setattr(made, "_settled_at", 0.0)
    return made


def listening(log: logging.Logger, form: LogFormat = LogFormat.TEXT) -> io.StringIO:
    handler, out = ServiceLogHandler(form), io.StringIO()
    handler.setStream(out)
    log.addHandler(handler)
    return out


def test_json_log_writes_one_object_per_line(log: logging.Logger) -> None:
    out = listening(log, LogFormat.JSON)
    try:
        raise ValueError("it is\nso")
    except ValueError:
        log.exception("lost %d\nof them", 3, extra={"topic": "t", "path": object})
    log.error("plain")
    log.error("a file of %s", "\udcff", extra={"file": "\udcff"})
    first, second, third = map(json.loads, out.getvalue().splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("ERROR", "broker.tests", "lost 3\nof them")
    assert first["time"].endswith("Z")
    assert first["fields"]["topic"] == "t"
    assert "ValueError: it is\nso" in first["exception"]
    assert second.keys() == {"time", "level", "logger", "message"}
    assert (third["message"], third["fields"]["file"]) == (r"a file of \udcff", r"\udcff"), "no UTF-8"


def test_text_log_escapes_line_breaks_of_clients(log: logging.Logger) -> None:
    out = listening(log)
    log.error("GET %s", "/v2/\n2026-01-31 ERROR all is lost\x1b[31m\x9b\tjobs/é")
    assert out.getvalue().count("\n") == 1
    assert r"/v2/\n2026-01-31 ERROR all is lost\x1b[31m\x9b\tjobs/é" in out.getvalue()


def test_log_handler_drops_messages_explained_by_outage(
    log: logging.Logger, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, said = listening(log), listening(logging.getLogger("process.outages"))
    handler = log.handlers[-1]
    assert isinstance(handler, ServiceLogHandler)
    try:
        log.warning("not answered: %r", ConnectionResetError())  # before the outage is known
        outage.failed("k:1", "refused")
        outage.failed("k:1", "refused")
        log.warning("2 of 3 brokers")
        log.error("3 records are lost")
        handler.write_held()
        outage.answered("k:1")
        outage.answered("k:1")
        log.warning("not joined yet")
        handler.write_held()
        monkeypatch.setattr(outage, "_settled_at", 0.0)
        log.warning("and so on")
        handler.close()
    finally:
        logging.getLogger("process.outages").handlers.clear()
    assert [line.partition("broker.tests: ")[2] for line in out.getvalue().splitlines()] == [
        "3 records are lost", "and so on",
    ]  # fmt: skip
    lines = [line.partition("outages: ")[2] for line in said.getvalue().splitlines()]
    assert lines == ["Kafka does not answer at k:1 (refused); trying again until it does", "Kafka answers again at k:1"]


def test_failure_log_is_silent_during_outage(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    failures = FailureLog("trimming", "topics grow")
    outage.failed()
    caplog.clear()
    failures.failed(ConnectionResetError("gone"))
    failures.recovered()
    assert not caplog.records
    failures.failed(ValueError("another thing"))
    assert "trimming: another thing" in caplog.text


@pytest.mark.parametrize(("tolerated_s", "lines"), [(0.0, 1), (60.0, 0)])
def test_failure_log_tolerates_short_failures(tolerated_s: float, lines: int, caplog: pytest.LogCaptureFixture) -> None:
    failures = FailureLog("trimming", "topics grow", tolerated_s)
    for _ in range(3):
        failures.failed(ValueError("not yet"))
    assert len(caplog.records) == lines


def test_configure_logging_keeps_foreign_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    root, err = logging.getLogger(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    theirs = logging.NullHandler()
    monkeypatch.setattr(root, "handlers", [theirs])
    configure_logging("INFO")
    assert root.handlers == [theirs]
    monkeypatch.setattr(root, "handlers", [])
    try:
        configure_logging("INFO")
        configure_logging("DEBUG", LogFormat.JSON)
        assert [type(handler) for handler in root.handlers] == [ServiceLogHandler]
        logging.getLogger("x").debug("said")
        assert json.loads(err.getvalue())["message"] == "said"
    finally:
        root.setLevel("WARNING")
        logging.captureWarnings(False)
