"""Tests of `UploadPlaces`: limited, and shared among tenants."""

from contextlib import ExitStack

import pytest

from gateway.http.uploads import UploadPlaces
from schemas.errors import Overloaded


def test_upload_places_keep_half_for_other_tenants() -> None:
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
