"""Tests of webhooks: allowed URLs and addresses, signed events."""

import base64
import json
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from gateway.jobs.settings import JobsSettings
from gateway.jobs.webhooks import event_of, may_call, parse_webhook, signed_headers, signing_keys
from schemas.errors import Forbidden, InvalidRequest, OperatorError
from schemas.jobs import Job, JobState
from schemas.query import Mode

HOSTS = ("hooks.example.com", "*.example.org", "ci.example.com:8443", "[2001:db8::1]:443", "192.0.2.7")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # pragma: allowlist secret
JOB = Job(
    id="1", model="m", task="t", state=JobState.SUCCEEDED, mode=Mode.OFFLINE, attempts=1,
    created_at=datetime(2026, 1, 2, tzinfo=UTC), finished_at=datetime(2026, 1, 3, tzinfo=UTC),
)  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [
        *("https://hooks.example.com/a?b=c", "https://HOOKS.example.com", "https://a.b.example.org/x"),
        *("https://ci.example.com:8443/", "https://192.0.2.7/"),
    ],
)
def test_parse_webhook_accepts_listed_hosts(url: str) -> None:
    assert parse_webhook(url, HOSTS, plain_http=False).scheme == "https"


@pytest.mark.parametrize(
    "url",
    [
        *("https://example.com", "https://example.org", "https://evilexample.org", "https://hooks.example.com:8443"),
        *("https://ci.example.com", "https://hooks.example.com.evil.net", "https://2130706433/", "https://[::1]/"),
    ],
)
def test_parse_webhook_forbids_other_hosts(url: str) -> None:
    with pytest.raises(Forbidden, match="webhooks may not go to"):
        parse_webhook(url, HOSTS, plain_http=False)
    with pytest.raises(Forbidden):
        parse_webhook(url, (), plain_http=True)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "hooks.example.com",
            "ftp://hooks.example.com",
            "file:///etc/passwd",
            "https://user:pw@hooks.example.com",
        ),
        *("http://hooks.example.com", "https://hooks.example.com:none/", "https://" + "a" * 3000, "https:///x"),
    ],
)
def test_parse_webhook_refuses_invalid_urls(url: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_webhook(url, HOSTS, plain_http=False)


def test_parse_webhook_accepts_http_if_allowed() -> None:
    assert (
        parse_webhook("http://hooks.example.com/#x", HOSTS, plain_http=True).human_repr() == "http://hooks.example.com/"
    )


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_may_call_public_address(address: str) -> None:
    assert may_call(address, ())


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1"),
        *("64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0:7f00:1::", "224.0.0.1", "ff02::1"),
        *("255.255.255.255", "240.0.0.1", "not an address", ""),
    ],
)
def test_may_call_refuses_other_addresses(address: str) -> None:
    assert not may_call(address, ())
    assert not may_call(address, (ip_network("192.0.2.0/24"),))


def test_may_call_accepts_allowed_network() -> None:
    assert may_call("10.20.3.4", (ip_network("10.20.0.0/16"),))
    assert may_call("::ffff:10.20.3.4", (ip_network("10.20.0.0/16"),))
    assert not may_call("10.21.3.4", (ip_network("10.20.0.0/16"), ip_network("fd00::/8")))


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
