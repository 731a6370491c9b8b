"""Test of the access of composites: no wider than their registration and their parts."""

from pathlib import Path

import pytest

from registry.access import write_access
from registry.artifacts import ArtifactStore
from registry.request import Registration
from schemas.access import Access, Visibility
from store.pool import Pool
from store.tenants import get_access, set_access
from tests.example_rows import register

PRIVATE = Access(owner="acme", visibility=Visibility.PRIVATE)
OWNED = Access(owner="acme")
SHARED = Access(owner="globex", visibility=Visibility.SHARED, shared_with=frozenset({"acme"}))
BOTH = Access(owner="acme", visibility=Visibility.SHARED, shared_with=frozenset({"globex"}))


@pytest.mark.parametrize(
    ("said", "part", "found"), [(PRIVATE, SHARED, PRIVATE), (OWNED, SHARED, BOTH), (OWNED, OWNED, OWNED)]
)
async def test_composite_access_is_limited_by_parts(
    store_pool: Pool, artifacts: ArtifactStore, said: Access, part: Access, found: Access
) -> None:
    """The result is no wider than the request and no wider than the part."""
    await register(store_pool, "mlp.onnx-fp32.cpu", "pair.onnx-fp32.cpu")
    await set_access(store_pool, "mlp", part)
    request = Registration(
        file=Path("pair.json"), task="digits", architecture="pair", accuracy=0.9, access=said, made_of=("mlp",)
    )
    async with store_pool.transaction() as session:
        await write_access(session, artifacts, request, "pair", None)
    assert await get_access(store_pool, "pair") == found
