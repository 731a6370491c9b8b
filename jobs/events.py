"""Content of a webhook call: a CloudEvent in structured mode, signed according to Standard Webhooks. Pure.

The mode is structured because the signature covers only the body; in binary mode it would not cover the attributes of
the event. The id of the event and of the message is the job's id. It is the same at each attempt, so that receivers can
detect duplicates.
"""

import base64
import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from schemas.jobs import JobStatus, job_path

_PREFIX: Final = "whsec_"
_KEY_BYTES: Final = range(24, 65)
CONTENT_TYPE: Final = "application/cloudevents+json; charset=UTF-8"


def signing_keys(secrets: str) -> tuple[bytes, ...]:
    """Read keys from a text, separated by spaces.

    Raises:
        ValueError: a key is not `whsec_` followed by 24 to 64 bytes in base64.
    """
    keys = list[bytes]()
    for secret in secrets.split():
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        if not secret.startswith(_PREFIX) or len(key) not in _KEY_BYTES:
            raise ValueError("a secret of webhooks is `whsec_` and 24 to 64 bytes in base64")
        keys.append(key)
    return tuple(keys)


def event_of(job: JobStatus) -> bytes:
    """Return the event for the end of a job, identical at each delivery attempt."""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": job.id,
        "source": job_path(job.model, "").rstrip("/"),
        "type": f"io.infaas.job.{job.state}",
        "subject": job.id,
        "time": job.finished_at,
        "datacontenttype": "application/json",
        "data": replace(job, notice=None),
    }
    return msgspec.json.encode(event)


def signed_headers(message_id: str, now_s: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """Return the headers of an event: its content type, id and time, and one signature for each key."""
    signed = f"{message_id}.{now_s}.".encode() + body
    signatures = (base64.b64encode(hmac.new(key, signed, sha256).digest()).decode() for key in keys)
    return {
        "Content-Type": CONTENT_TYPE,
        "webhook-id": message_id,
        "webhook-timestamp": str(now_s),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
