"""Protection of the admin API from foreign web pages: a user's browser reaches more than a page's author does.

A gateway without authentication trusts all clients on loopback. A browser on the machine is such a client, with every
page that it shows. These rules refuse such pages and do not affect programs:

* **A foreign `Origin` is refused.** Browsers send `Origin` with requests that may change data, and a page cannot
  suppress it.
* **A `Sec-Fetch-Site` of another site is refused.** Browsers send it with reading requests, too, such as for an image.
  The page could not read the response, but it could cause work in the gateway.
* **Without authentication, `Host` must be an address or `localhost`.** After DNS rebinding, a page under a name that
  resolves to 127.0.0.1 has the same origin as the gateway, but still sends its own name.

Bodies must have the type JSON, which no HTML form can send. Preflight requests get no permission.
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
    """Check that a request comes from no foreign web page; the names of headers are case-insensitive.

    Args:
        headers: headers of the request.
        known_clients: true if clients must authenticate.

    Raises:
        Forbidden: the request comes from a foreign page.
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
    """Return true if a `Host` header holds an address or `localhost`, with or without a port."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    try:
        return found[1].lower() == _LOCAL or bool(ip_address(found[1].strip("[]")))
    except ValueError:
        return False
