"""Tests of `check_no_foreign_page`: requests of foreign web pages are recognised by their headers."""

import pytest

from gateway.http.admin import check_no_foreign_page
from schemas.errors import Forbidden

OWN = "127.0.0.1:8080"


@pytest.mark.parametrize("host", ["127.0.0.1", OWN, "[::1]:8080", "localhost", "LOCALHOST:8080", "192.168.0.7:80"])
@pytest.mark.parametrize("known", [True, False])
def test_page_check_allows_address_and_localhost(host: str, known: bool) -> None:
    check_no_foreign_page({"Host": host}, known_clients=known)
    check_no_foreign_page({"Host": host, "Origin": f"http://{host}"}, known_clients=known)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "[::1", "a@[::1]x"]
)
def test_page_check_refuses_host_name_of_unknown_client(host: str) -> None:
    with pytest.raises(Forbidden, match="by an address or as localhost"):
        check_no_foreign_page({"Host": host}, known_clients=False)
    check_no_foreign_page({"Host": host}, known_clients=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("Origin", one) for one in ("http://evil.example", "null", "", "http://127.0.0.1:81", f"http://{OWN}.evil")),
        ("Origin", "http://["),
        *(("Sec-Fetch-Site", site) for site in ("cross-site", "same-site")),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_page_check_refuses_foreign_pages(name: str, value: str, known: bool) -> None:
    with pytest.raises(Forbidden, match="pages of others"):
        check_no_foreign_page({"Host": OWN, name: value}, known_clients=known)


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_page_check_allows_same_origin_request(site: str) -> None:
    check_no_foreign_page({"Host": OWN, "Sec-Fetch-Site": site}, known_clients=False)
