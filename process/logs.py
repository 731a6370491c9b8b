"""Logging of a process: text lines for people, or one JSON object a line for programs. Lines contain no colours.

    {"time": "2026-01-31T12:00:00.123Z", "level": "WARNING", "logger": "workers.lease", "message": "...",
     "fields": {the fields of `extra`}, "exception": "the traceback"}

`fields` and `exception` are absent if empty. Messages of client libraries about their own state (group membership,
closed connections) are logged only at DEBUG; an `Outage` logs once that a dependency is unavailable.
"""

import logging
import os
import sys
import threading
from contextlib import nullcontext
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Any, Final

import msgspec

from process.outages import Outage, outages

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
LEVEL_ENV: Final = "INFAAS_LOG_LEVEL"
FORMAT_ENV: Final = "INFAAS_LOG_FORMAT"
_TEXT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_CLIENT: Final = "aiokafka"
_CHATTER: Final = {_CLIENT: logging.ERROR, "alembic": logging.WARNING}
"""Libraries that log their own state, and the lowest level of theirs that is logged."""
_CONTROLS: Final = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0))}
_HELD_S: Final = 1.0
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogFormat(StrEnum):
    """Log formats."""

    TEXT = "text"
    JSON = "json"


def said_format() -> LogFormat:
    """Return the log format that the environment sets; text if unset or invalid."""
    said = os.environ.get(FORMAT_ENV, "").lower()
    return LogFormat(said) if said in LogFormat.__members__.values() else LogFormat.TEXT


def said_level(default: str) -> str:
    """Return the log level that the environment sets; `default` if unset or invalid."""
    said = os.environ.get(LEVEL_ENV, "").upper()
    return said if said in LEVELS else default


class TextFormatter(logging.Formatter):
    """Formatter of text lines; it escapes control characters, so that client input cannot forge lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format a record as one line, without its traceback."""
        record.message = record.message.translate(_CONTROLS)
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """Formatter of records as JSON objects."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said: dict[str, Any] = {
            "time": at, "level": record.levelname, "logger": record.name, "message": _utf8(record.getMessage()),
        }  # fmt: skip
        fields = {name: _utf8(value) for name, value in vars(record).items() if name not in _OWN}
        if fields:
            said["fields"] = fields
        if record.exc_info:
            said["exception"] = _utf8(self.formatException(record.exc_info))
        return msgspec.json.encode(said, enc_hook=str).decode()


def _utf8(value: Any) -> Any:
    """Escape characters that UTF-8 cannot encode, as in names of files; return other values than texts unchanged."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


class ServiceLogHandler(logging.StreamHandler[Any]):
    """Handler of all log records of a process.

    A warning that an outage may explain is held for a second, since the first code to fail does not know yet whether
    there is an outage.
    """

    def __init__(self, form: LogFormat) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(JsonFormatter() if form is LogFormat.JSON else TextFormatter(_TEXT))
        self._held: list[tuple[logging.LogRecord, Outage]] = []
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record at once, hold it for a second, or drop it."""
        outage = None
        if logging.root.level > logging.DEBUG:
            if record.name.startswith(_CLIENT) and not record.exc_info:
                return  # it reports connections, which an outage covers
            if record.levelno == logging.WARNING:
                outage = next((one for one in outages() if one.concerns(record)), None)
        if outage is None:
            super().emit(record)
        else:
            self._hold(record, outage)

    def write_held(self) -> None:
        """Write the held records that no outage explains."""
        with self.lock or nullcontext():
            held, self._held, self._timer = self._held, [], None
            for record, outage in held:
                if not outage.explains:
                    super().emit(record)

    def close(self) -> None:
        """Write the held records and close the handler."""
        if self._timer is not None:
            self._timer.cancel()
        self.write_held()
        super().close()

    def _hold(self, record: logging.LogRecord, outage: Outage) -> None:
        self._held.append((record, outage))
        if self._timer is None:
            self._timer = threading.Timer(_HELD_S, self.write_held)
            self._timer.daemon = True
            self._timer.start()


def configure_logging(level: str = "INFO", form: LogFormat = LogFormat.TEXT) -> None:
    """Log records of at least `level` to stderr from now on; do nothing if the application has its own handlers."""
    root = logging.getLogger()
    ours = [handler for handler in root.handlers if isinstance(handler, ServiceLogHandler)]
    if root.handlers and not ours:
        return
    for handler in ours:
        root.removeHandler(handler)
        handler.close()
    root.addHandler(ServiceLogHandler(form))
    root.setLevel(level)
    logging.captureWarnings(True)
    for name, least in _CHATTER.items():
        logging.getLogger(name).setLevel(logging.NOTSET if root.level <= logging.DEBUG else least)
    if form is LogFormat.JSON:
        sys.excepthook = _log_end


def _log_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger(__name__).critical("the process ends: %s", error, exc_info=(kind, error, trace))
