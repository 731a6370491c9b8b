"""Tests of webhook events: valid CloudEvents, signed as Standard Webhooks require."""

import base64
import json
from datetime import UTC, datetime

import pytest

from jobs.events import event_of, signed_headers, signing_keys
from jobs.settings import JobsSettings
from schemas.errors import OperatorError
from schemas.jobs import JobState, JobStatus
from schemas.needs import Mode

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # pragma: allowlist secret
JOB = JobStatus(
    id="1", model="m", task="t", state=JobState.SUCCEEDED, mode=Mode.OFFLINE, attempts=1,
    created_at=datetime(2026, 1, 2, tzinfo=UTC), finished_at=datetime(2026, 1, 3, tzinfo=UTC),
)  # fmt: skip


def test_signed_headers_match_standard_webhooks() -> None:
    """Test vector of the Standard Webhooks libraries."""
    headers = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', signing_keys(SECRET))
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"  # pragma: allowlist secret
    assert headers["webhook-timestamp"] == "1614265330"


def test_signed_headers_use_both_secrets_during_rotation() -> None:
    other = f"whsec_{base64.b64encode(bytes(32)).decode()}"
    both = signed_headers("a", 1, b"", signing_keys(f"{SECRET} {other}"))["webhook-signature"].split()
    assert [signed_headers("a", 1, b"", signing_keys(one))["webhook-signature"] for one in (SECRET, other)] == both


@pytest.mark.parametrize("secret", ["whsec_short", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!", "whsec_QUJD"])
def test_jobs_settings_refuse_invalid_webhook_secret(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFAAS_JOBS_WEBHOOK_SECRET", secret)
    with pytest.raises(OperatorError, match="INFAAS_JOBS_WEBHOOK_SECRET") as caught:
        JobsSettings()
    assert secret not in str(caught.value)


def test_jobs_settings_require_webhook_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFAAS_WEBHOOK_HOSTS", '["example.com"]')
    with pytest.raises(OperatorError, match="set INFAAS_JOBS_WEBHOOK_SECRET"):
        JobsSettings()
    monkeypatch.setenv("INFAAS_JOBS_WEBHOOK_SECRET", SECRET)
    assert SECRET not in repr(JobsSettings())


def test_event_of_job_is_a_cloud_event() -> None:
    event = json.loads(event_of(JOB))
    assert (event["specversion"], event["id"], event["source"], event["type"]) == (
        *("1.0", "1", "/v2/models/m/jobs"),
        "io.infaas.job.succeeded",
    )
    assert event["time"] == "2026-01-03T00:00:00Z"
    assert event["data"]["state"] == "succeeded"
