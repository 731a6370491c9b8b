"""Rules of webhooks: allowed URLs and addresses, signed events. Pure.

* URLs: gateways check the URL when the job is submitted, jobs services check it again before a call. A pattern of
  allowed hosts is a host, or `*.` and a domain for all hosts below it; either may have a port.
* Addresses: a host name may resolve to an address that only we can reach: on this machine, in its network or in its
  cloud. The check therefore applies to the resolved address, at the moment of the connection.
* Events: a CloudEvent in structured mode, signed according to Standard Webhooks. The mode is structured because the
  signature covers only the body; in binary mode it would not cover the attributes of the event. The id of the event and
  of the message is the job's id. It is the same at each attempt, so that receivers can detect duplicates.
"""

import base64
import hmac
from collections.abc import Collection, Sequence
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final, TypeAlias

import msgspec
from msgspec.structs import replace
from yarl import URL

from schemas.errors import Forbidden, InvalidRequest
from schemas.jobs import Job, job_path

Network: TypeAlias = IPv4Network | IPv6Network

_MAX_URL: Final = 2000
_PORTS: Final = {"https": 443, "http": 80}
_TRANSLATED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"), IPv6Network("::/96"))
"""IPv6 networks that are translated to arbitrary IPv4 addresses."""
_PREFIX: Final = "whsec_"
_KEY_BYTES: Final = range(24, 65)
CONTENT_TYPE: Final = "application/cloudevents+json; charset=UTF-8"


def parse_webhook(url: str, hosts: Collection[str], *, plain_http: bool) -> URL:
    """Parse the URL of a webhook, and check that calling it is allowed.

    Args:
        url: the URL from the client.
        hosts: patterns of allowed hosts.
        plain_http: true to allow HTTP without encryption.

    Raises:
        InvalidRequest: it is not a valid URL for a webhook.
        Forbidden: its host matches none of `hosts`.
    """
    try:
        parsed = URL(url)
        host, port = parsed.host, parsed.port
    except ValueError:
        parsed, host, port = URL(), None, None
    if len(url) > _MAX_URL or host is None or parsed.scheme not in _PORTS or parsed.user or parsed.password:
        raise InvalidRequest("a webhook must be a URL, https://host/path, without a user or a password")
    if parsed.scheme == "http" and not plain_http:
        raise InvalidRequest("a webhook must be https: this system allows no webhooks over unencrypted HTTP")
    if not any(_matches(host.lower(), port, _PORTS[parsed.scheme], pattern.lower()) for pattern in hosts):
        raise Forbidden(f"webhooks may not go to {host[:100]}:{port}; an operator can allow it")
    return parsed.with_fragment(None)


def _matches(host: str, port: int | None, usual: int, pattern: str) -> bool:
    name, colon, number = pattern.rpartition(":")
    name, wanted = (name, number) if colon and number.isdecimal() else (pattern, str(usual))
    if str(port) != wanted:
        return False
    return host.endswith(name[1:]) and len(host) > len(name) - 1 if name.startswith("*.") else host == name.strip("[]")


def may_call(address: str, networks: Collection[Network]) -> bool:
    """Return true if an address is public or belongs to one of `networks`."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found.version == network.version and found in network for network in networks) or _is_public(found)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and (
        address.sixtofour is not None or address.teredo is not None or any(address in part for part in _TRANSLATED)
    ):
        return False
    return address.is_global and not address.is_multicast


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


def event_of(job: Job) -> bytes:
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
