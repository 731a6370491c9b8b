"""Tests of limits for a receiver's connections, and of the encryption of its results."""

from dataclasses import dataclass

import pytest

from broker.kafka.settings import ReplyStreamSettings
from broker.replies.address import FINGERPRINT_LENGTH, StreamAddress, new_receiver_tls, parse_address
from broker.replies.receiver import (
    IN_USE_S,
    MAX_SENDERS,
    MAX_SENDERS_OF_ADDRESS,
    MAX_STRANGERS,
    SILENT_S,
    STRANGER_S,
    ConnectionPlaces,
)
from broker.replies.sender_connection import KEEPALIVE_S

HOSTS = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5")


@dataclass(eq=False)
class Connection:
    host: str
    made_s: float = 0.0
    heard_s: float = 0.0
    used_s: float = float("-inf")


def full(places: ConnectionPlaces[Connection], used_s: float) -> None:
    for number in range(MAX_SENDERS):
        assert places.admit(Connection(HOSTS[number // MAX_SENDERS_OF_ADDRESS], used_s=used_s), used_s) is None


def test_places_close_unused_sender_for_new_one() -> None:
    places = ConnectionPlaces[Connection]()
    full(places, float("-inf"))
    for number in range(100):
        assert places.admit(Connection(HOSTS[4], used_s=float(number)), float(number)) is not None
        assert len(places.senders) == MAX_SENDERS


def test_places_keep_senders_in_use() -> None:
    places = ConnectionPlaces[Connection]()
    full(places, 100.0)
    with pytest.raises(ValueError, match="no other is accepted"):
        places.admit(Connection(HOSTS[4]), 100.0 + IN_USE_S - 0.1)
    next(iter(places.senders)).used_s = 200.0
    second = list(places.senders)[1]
    assert places.admit(Connection(HOSTS[4]), 100.0 + IN_USE_S) is second, "the least used one"


def test_places_limit_senders_of_one_address() -> None:
    places = ConnectionPlaces[Connection]()
    own = [Connection(HOSTS[0]) for _ in range(MAX_SENDERS_OF_ADDRESS + 10)]
    gone = [places.admit(one, 1.0) for one in own]
    assert gone[-11:] == [None, *own[:10]]
    assert places.admit(Connection(HOSTS[1]), 1.0) is None


def test_places_close_oldest_stranger_after_its_time() -> None:
    places = ConnectionPlaces[Connection]()
    strangers = [Connection(HOSTS[0], made_s=float(number)) for number in range(MAX_STRANGERS)]
    for one in strangers:
        assert places.crowded_out(0.0) == (None, 0.0)
        places.greet(one)
    assert places.crowded_out(STRANGER_S / 4) == (strangers[0], pytest.approx(STRANGER_S * 3 / 4))
    assert places.crowded_out(STRANGER_S) == (strangers[0], 0.0)
    places.admit(strangers[0], 1.0)
    assert places.crowded_out(STRANGER_S) == (None, 0.0)


def test_places_list_senders_that_sent_no_data() -> None:
    places = ConnectionPlaces[Connection]()
    gone, there = Connection(HOSTS[0]), Connection(HOSTS[0], heard_s=1.0)
    places.admit(gone, 0.0)
    places.admit(there, 0.0)
    assert places.silent(SILENT_S + 0.5) == [gone]
    assert SILENT_S >= 3 * KEEPALIVE_S


@pytest.mark.parametrize(
    ("tls", "by_tls", "host", "encrypted"),
    [
        (None, False, "10.0.0.1", False),
        (None, True, "10.0.0.1", True),
        (None, True, "127.0.0.1", False),
        (True, False, "127.0.0.1", True),
        (False, True, "10.0.0.1", False),
    ],
)
def test_settings_encrypt_results_where_kafka_does(tls: bool | None, by_tls: bool, host: str, encrypted: bool) -> None:
    settings = ReplyStreamSettings(tls=tls, host=host)
    assert settings.encrypts_results(by_tls) is encrypted
    assert StreamAddress(host, 1, "token").may_receive(settings, by_tls) is not encrypted
    assert StreamAddress(host, 1, "token", "fingerprint").may_receive(settings, by_tls)


def test_address_includes_certificate_fingerprint() -> None:
    fingerprint = new_receiver_tls().fingerprint
    assert len(fingerprint) == FINGERPRINT_LENGTH
    address = StreamAddress("::1", 80, "0123456789abcdef", fingerprint)
    assert parse_address(address.header()) == address
    assert parse_address(f"127.0.0.1:80 0123456789abcdef {fingerprint[1:]}") is None
    assert parse_address("127.0.0.1:80 0123456789abcdef ") is None
