"""Registrations and uploads as rows: what counts against whom."""

from schemas.rows.registrations import NewRegistration
from store.pool import Pool
from store.registrations import claim_registration, put_registration, release_registration


def a_registration(number: str, tenant: str = "acme") -> NewRegistration:
    return NewRegistration(
        id=number, kind="model", name="m", tenant=tenant, publisher=True, asked_by="key:1", origin="http", request={},
        uploads=(),
    )  # fmt: skip


async def test_what_only_was_interrupted_counts_for_nothing(store_pool: Pool) -> None:
    """Kafka may be away for as long as it likes."""
    assert await put_registration(store_pool, a_registration("1"), most_open=1)
    for reason in ("", "", "it crashed", ""):
        claim = await claim_registration(store_pool, "one", 60)
        assert claim is not None
        await release_registration(store_pool, (claim.id, claim.epoch), reason)
    last = await claim_registration(store_pool, "one", 60)
    assert last is not None
    assert (last.epoch, last.attempts, last.crashes, last.reason) == (5, 2, 1, "it crashed")
