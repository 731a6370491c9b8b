"""Tests of `may_call`: webhooks go only to public or allowed addresses, in any notation."""

from ipaddress import ip_network

import pytest

from jobs.addresses import may_call


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
