"""Limit of concurrent calls: in all, and for each client."""

import pytest

from gateway.limits.connections import CallLimit
from schemas.errors import Overloaded, RefusalReason


def test_call_limit_holds_in_all_and_for_each_client() -> None:
    places = CallLimit("calls", 3, 2)
    with places.taken("a"), places.taken("a"):
        with pytest.raises(Overloaded, match="2 calls of one client") as refused, places.taken("a"):
            pass
        assert refused.value.reason is RefusalReason.CLIENT_CALL_LIMIT
        with places.taken("b"), pytest.raises(Overloaded, match="3 calls are open") as refused, places.taken("c"):
            pass
        assert refused.value.reason is RefusalReason.CALL_LIMIT
        with places.taken("c"):
            pass
    with places.taken("a"), places.taken("a"):
        pass
