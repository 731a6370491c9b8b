"""What a webhook is sent: a CloudEvent in structured mode, signed as Standard Webhooks asks. Pure.

Structured, since the signature is of the body: in binary mode it would leave the event's attributes out. The event's id
is the job's and that of the message, the same at each attempt, so that who is told twice knows it.
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
    """Read keys from their text, several of them parted by spaces.

    Raises:
        ValueError: one is not `whsec_` and 24 to 64 bytes in base64.
    """
    keys = list[bytes]()
    for secret in secrets.split():
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        if not secret.startswith(_PREFIX) or len(key) not in _KEY_BYTES:
            raise ValueError("a secret of webhooks is `whsec_` and 24 to 64 bytes in base64")
        keys.append(key)
    return tuple(keys)


def event_of(job: JobStatus) -> bytes:
    """Make the event that tells that a job has ended; it is the same at each attempt to deliver it."""
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
    """Make the headers that go with an event: its type, and one signature a key."""
    signed = f"{message_id}.{now_s}.".encode() + body
    signatures = (base64.b64encode(hmac.new(key, signed, sha256).digest()).decode() for key in keys)
    return {
        "Content-Type": CONTENT_TYPE,
        "webhook-id": message_id,
        "webhook-timestamp": str(now_s),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
