"""Whatever way a query comes, it may need the same."""

from infaas.client.client import QueryOptions
from schemas import headers as h
from schemas.cloudevents import ATTRIBUTES
from schemas.documents import fields


def test_clients_events_and_documents_know_the_same_needs() -> None:
    assert h.NEEDS.keys() <= QueryOptions.__annotations__.keys()
    assert set(h.NEEDS.values()) <= set(ATTRIBUTES.values())
    assert fields.NEEDS.keys() == {h.DEADLINE_MS, *h.NEEDS.values()}
