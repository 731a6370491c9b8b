"""Requests and responses of the parts of OpenAI's API that a gateway serves, in OpenAI's own words.

Times are whole seconds since the epoch.
"""

from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from schemas import headers as h

NEEDS: Final = tuple(name for name in h.NEEDS if name != "explain")
"""Needs that a request may have as fields. Answers have no place for an explanation."""
EMBEDDINGS: Final = "/v1/embeddings"
"""Path of embeddings, and the endpoint that a batch may name."""
MOST_INPUTS: Final = 2048
"""Maximum number of inputs of a call, as OpenAI's."""
MOST_LINES: Final = 50_000
"""Maximum number of lines of a batch, as OpenAI's."""
MOST_LISTED: Final = 10_000
"""Maximum number of files or batches of a page."""
BATCH: Final = "batch"
"""Purpose of an uploaded file; the only one."""
BATCH_OUTPUT: Final = "batch_output"
"""Purpose of the files that a batch writes."""

Name = Annotated[str, msgspec.Meta(min_length=1)]
Encoding = Literal["float", "base64"]


class OpenAiError(msgspec.Struct, frozen=True):
    """Error in OpenAI's form."""

    message: str
    type: str
    param: str | None
    """Field of the request that the message names."""
    code: str
    """Reason of a refusal, or the error's code."""


class OpenAiErrorBody(msgspec.Struct, frozen=True):
    """Body of an error response."""

    error: OpenAiError


class OpenAiModel(msgspec.Struct, frozen=True, kw_only=True):
    """A name that queries may give as their model: a task, an architecture or a variant."""

    id: str
    object: str = "model"
    created: int = 0
    """Time of the task's registration."""
    owned_by: str
    task: str
    measure: str
    """Measure of the task's accuracy; that of an embedding task is `cosine`."""


class OpenAiModels(msgspec.Struct, frozen=True, kw_only=True):
    """Models that are ready."""

    object: str = "list"
    data: list[OpenAiModel]


# -- queries -----------------------------------------------------------------------------------------------------------
class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for embeddings, without its needs."""

    model: Name
    input: msgspec.Raw
    """A text, a list of texts, a list of token ids, or a list of such lists."""
    encoding_format: Encoding = "float"
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None
    user: str | None = None
    """Accepted and not used."""


class RerankDocument(msgspec.Struct, frozen=True):
    """A document as an object."""

    text: str


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to order documents, without its needs."""

    model: Name
    query: str
    documents: Annotated[list[str | RerankDocument], msgspec.Meta(min_length=1, max_length=MOST_INPUTS - 1)]
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Number of documents in the response; None: all."""
    return_documents: bool | None = None
    """False: the response has no texts."""

    @property
    def texts(self) -> list[str]:
        """Texts of the documents."""
        return [one if isinstance(one, str) else one.text for one in self.documents]


class RerankResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """A document with its relevance."""

    index: int
    relevance_score: float
    """Cosine similarity, -1 to 1."""
    document: RerankDocument | None = None


class RerankResponse(msgspec.Struct, frozen=True):
    """Documents, the most relevant first."""

    id: str
    model: str
    results: list[RerankResult]
    usage: dict[str, int]


# -- files -------------------------------------------------------------------------------------------------------------
class OpenAiFile(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str = "processed"


class OpenAiFiles(msgspec.Struct, frozen=True, kw_only=True):
    """A page of files."""

    object: str = "list"
    data: list[OpenAiFile]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a deletion."""

    id: str
    object: str = "file"
    deleted: bool = True


# -- batches -----------------------------------------------------------------------------------------------------------
class BatchStatus(StrEnum):
    """Status of a batch."""

    VALIDATING = "validating"
    FAILED = "failed"
    """The file is invalid; nothing was computed."""
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    EXPIRED = "expired"
    """Lines were left at the end of the window; the output has the others."""
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Request for a batch."""

    input_file_id: Name
    endpoint: Literal["/v1/embeddings", "/v1/chat/completions", "/v1/completions"]
    completion_window: str = "24h"
    """Time within which the batch is computed, at most a day: `24h`, `90m`, `45s`."""
    metadata: dict[str, str] | None = None


class BatchError(msgspec.Struct, frozen=True, kw_only=True):
    """Error of a line of an invalid file."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None
    """Number of the line, from 1."""


class BatchErrors(msgspec.Struct, frozen=True, kw_only=True):
    """First errors of an invalid file."""

    object: str = "list"
    data: list[BatchError]


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of a batch."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class OpenAiBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch."""

    id: str
    object: str = "batch"
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    """File with the answers, if there are any, once the batch has ended."""
    error_file_id: str | None
    """File with the errors of lines, if there are any, once the batch has ended."""
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None


class OpenAiBatches(msgspec.Struct, frozen=True, kw_only=True):
    """A page of batches."""

    object: str = "list"
    data: list[OpenAiBatch]
    first_id: str | None
    last_id: str | None
    has_more: bool


class BatchLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of an input file."""

    custom_id: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str
    body: msgspec.Raw
