"""Tests of the limit of concurrent uploads: shared among tenants."""

from contextlib import ExitStack

import pytest

from gateway.http.uploads import upload_limit
from schemas.errors import Overloaded


def test_upload_limit_leaves_half_to_other_tenants() -> None:
    places = upload_limit(4)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(places.taken("acme"))
        with pytest.raises(Overloaded), places.taken("acme"):
            pass
        for tenant in ("globex", "initech"):
            held.enter_context(places.taken(tenant))
        with pytest.raises(Overloaded), places.taken("hooli"):
            pass
    with places.taken("acme"), places.taken("acme"):
        pass
