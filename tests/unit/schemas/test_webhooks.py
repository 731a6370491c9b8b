"""Tests of the check of webhook URLs."""

import pytest

from schemas.errors import Forbidden, InvalidRequest
from schemas.webhooks import parse_webhook

HOSTS = ("hooks.example.com", "*.example.org", "ci.example.com:8443", "[2001:db8::1]:443", "192.0.2.7")


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
