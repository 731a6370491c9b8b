"""Places for uploads: bounded, and shared."""

from contextlib import ExitStack

import pytest

from gateway.http.uploads import UploadPlaces
from schemas.errors import Overloaded


def test_one_tenant_leaves_half_of_the_places_to_others() -> None:
    places = UploadPlaces(4)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(places.one("acme"))
        with pytest.raises(Overloaded), places.one("acme"):
            pass
        for tenant in ("globex", "initech"):
            held.enter_context(places.one(tenant))
        with pytest.raises(Overloaded), places.one("hooli"):
            pass
    with places.one("acme"), places.one("acme"):
        pass
