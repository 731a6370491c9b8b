"""What a page in somebody's browser may not do with the admin API: their browser reaches more than its author does.

A gateway without authentication believes whoever reaches it at loopback, and so does the browser of whoever sits there,
with any page that it shows. Some rules keep these out; programs meet all without knowing of them:

* **A foreign `Origin` is refused.** Browsers send one with whatever may change something, and a page cannot hide it.
* **So is a `Sec-Fetch-Site` of others**, which browsers send with what only reads, too, as for an image: no page reads
  the answer, but it could have the gateway work for nothing.
* **Where nobody must say who they are, `Host` must be an address or `localhost`.** A page of a name that its owner lets
  resolve to 127.0.0.1 (DNS rebinding) is of the same origin as what it asks, but keeps its name.

Bodies must say that they are JSON, which no form can. Nothing answers a preflight, so no page is given leave.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final

from schemas.errors import Forbidden

_LOCAL: Final = "localhost"
_OF_OTHERS: Final = ("cross-site", "same-site")
_HOST: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]*)?")


def check_no_foreign_page(headers: Mapping[str, str], *, known_clients: bool) -> None:
    """Check that no page of others asks, by headers whose case is ignored.

    Args:
        headers: Those of the request.
        known_clients: Whether whoever asks must have said who they are.

    Raises:
        Forbidden: one does.
    """
    host, origin = headers.get("Host", ""), headers.get("Origin")
    if origin is not None and origin.lower() not in {f"{scheme}://{host.lower()}" for scheme in ("http", "https")}:
        raise Forbidden(f"the admin API takes nothing from pages of others, as of {origin[:80]!r}")
    if headers.get("Sec-Fetch-Site", "").lower() in _OF_OTHERS:
        raise Forbidden("the admin API takes nothing from pages of others")
    if not (known_clients or is_address(host)):
        raise Forbidden(
            f"without --auth the admin API is asked by an address or as {_LOCAL}, not as {host[:80]!r}: whoever owns a "
            "name may let it mean this machine"
        )


def is_address(host: str) -> bool:
    """Whether what a `Host` header names is an address, or what always means this machine."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    try:
        return found[1].lower() == _LOCAL or bool(ip_address(found[1].strip("[]")))
    except ValueError:
        return False
