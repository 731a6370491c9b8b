"""Tests of the needs of a query: client options, CloudEvents attributes and documents have the same set."""

from infaas.client.client import QueryOptions
from schemas import headers as h
from schemas.cloudevents import ATTRIBUTES
from schemas.documents import components


def test_needs_same_in_client_events_and_documents() -> None:
    assert h.NEEDS.keys() <= QueryOptions.__annotations__.keys()
    assert set(h.NEEDS.values()) <= set(ATTRIBUTES.values())
    assert components.NEEDS.keys() == {h.DEADLINE_MS, *h.NEEDS.values()}
