"""Rows of files and batches of OpenAI's API."""

from datetime import datetime
from typing import Literal

import msgspec

from schemas.access import Principal
from schemas.openai import BatchError, BatchStatus, Encoding


class FileRow(msgspec.Struct, frozen=True, kw_only=True):
    """A file: a name for an upload of its tenant."""

    id: str
    tenant: str
    name: str
    purpose: str
    bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime


class BatchRow(msgspec.Struct, frozen=True, kw_only=True):
    """A batch: a file whose lines become jobs, and the files of their results."""

    id: str
    tenant: str
    caller: Principal
    """Principal that created it, with whose rights the lines are computed."""
    input_file: str
    sha256: str
    """Content of the input file."""
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    status: BatchStatus
    total: int
    """Lines of the file; 0 until it is validated."""
    stored: int
    """Lines that are jobs already."""
    position: int
    """Byte at which the next line begins."""
    completed: int
    failed: int
    errors: list[BatchError]
    output_file: str | None
    error_file: str | None
    created_at: datetime
    deadline_at: datetime
    started_at: datetime | None
    cancelled_at: datetime | None
    """Time of the request to cancel it."""
    finalized_at: datetime | None
    ended_at: datetime | None
    left_s: float
    """Seconds until its deadline."""


class LineReply(msgspec.Struct, frozen=True, kw_only=True):
    """Properties of a line from which its answer is made, beside the result of its job."""

    custom_id: str
    form: Literal["embeddings", "chat", "text"] = "embeddings"
    """Form of the answer, by the endpoint of the batch."""
    model: str = ""
    encoding: Encoding = "float"
    output: str = ""
    """Output with the vectors."""
    tokens: int = 0
    """Number of token ids, if the line has such; the model reports the number of others."""
    prompts: int = 1
    """Number of prompts of a text completion."""


class LineResult(msgspec.Struct, frozen=True, kw_only=True):
    """Ended job of a line."""

    id: str
    state: str
    line: LineReply
    result_headers: dict[str, str] | None
    result: bytes | None
