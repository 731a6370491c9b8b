"""What a process logs, and how: lines for people, or a JSON object a line for programs. No colours, anywhere.

    {"time": "2026-01-31T12:00:00.123Z", "level": "WARNING", "logger": "workers.lease", "message": "...",
     "fields": {what `extra` holds}, "exception": "the traceback"}

`fields` and `exception` are there where there are any. What libraries say of their own affairs (who has joined a group,
which connection was closed) is logged at DEBUG only; while what they need is away, its `Outage` says so once.
"""

import logging
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Any, Final

import msgspec

from process.outages import outages

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
LEVEL_ENV: Final = "INFAAS_LOG_LEVEL"
FORMAT_ENV: Final = "INFAAS_LOG_FORMAT"
_TEXT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_CHATTER: Final = {"aiokafka": logging.ERROR, "alembic": logging.WARNING}
"""Libraries that tell of their own affairs, and from which level on that is somebody else's."""
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogFormat(StrEnum):
    """Forms of a line."""

    TEXT = "text"
    JSON = "json"


def said_format() -> LogFormat:
    """The form that the environment asks for; text where what it says is none."""
    said = os.environ.get(FORMAT_ENV, "").lower()
    return LogFormat(said) if said in LogFormat.__members__.values() else LogFormat.TEXT


def said_level(default: str) -> str:
    """The level that the environment asks for; `default` where what it says is none."""
    said = os.environ.get(LEVEL_ENV, "").upper()
    return said if said in LEVELS else default


class JsonFormatter(logging.Formatter):
    """Formatter of records as JSON objects."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as one line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said: dict[str, Any] = {
            "time": at, "level": record.levelname, "logger": record.name, "message": record.getMessage(),
        }  # fmt: skip
        fields = {name: value for name, value in vars(record).items() if name not in _OWN}
        if fields:
            said["fields"] = fields
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(said, enc_hook=str).decode()


class ServiceLogHandler(logging.StreamHandler[Any]):
    """Handler of everything that a process of ours logs."""

    def __init__(self, form: LogFormat) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(JsonFormatter() if form is LogFormat.JSON else logging.Formatter(_TEXT))

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record says more than that what is known to be away is away."""
        severe = logging.ERROR if record.name.startswith(tuple(_CHATTER)) and not record.exc_info else logging.WARNING
        if record.levelno <= severe and any(outage.explains(record) for outage in outages()):
            return False
        return bool(super().filter(record))


def configure_logging(level: str = "INFO", form: LogFormat = LogFormat.TEXT) -> None:
    """Log from now on what is as severe as `level`, to stderr; where somebody else handles logs already, by that."""
    root = logging.getLogger()
    ours = [handler for handler in root.handlers if isinstance(handler, ServiceLogHandler)]
    if root.handlers and not ours:
        return
    for handler in ours:
        root.removeHandler(handler)
    root.addHandler(ServiceLogHandler(form))
    root.setLevel(level)
    logging.captureWarnings(True)
    for name, least in _CHATTER.items():
        logging.getLogger(name).setLevel(logging.NOTSET if root.level <= logging.DEBUG else least)
    if form is LogFormat.JSON:
        sys.excepthook = _log_end


def _log_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger(__name__).critical("the process ends: %s", error, exc_info=(kind, error, trace))
