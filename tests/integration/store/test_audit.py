"""Tests of the audit log: an act and its entry are one transaction; a failed act leaves an entry of the attempt."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from schemas.errors import OperatorError
from schemas.rows.audit import AuditAct, AuditOutcome, AuditVerb
from schemas.rows.cluster import Pin, PinKind
from store.audit import audited, audited_transaction, list_acts, prune_acts
from store.pool import Pool
from store.scaling import list_pins, put_pin

PIN = Pin(kind=PinKind.HARDWARE, name="cpu", minimum=1)


def an_act(verb: AuditVerb = AuditVerb.PIN, subject: str = "hardware cpu", actor: str = "ann@here") -> AuditAct:
    return AuditAct(actor=actor, origin="command line", verb=verb, subject=subject, detail={"minimum": 1})


async def outcomes(pool: Pool) -> list[tuple[str, AuditOutcome, str]]:
    return [(row.verb, row.outcome, row.error) for row in await list_acts(pool)]


async def test_audited_transaction_writes_act_and_entry(store_pool: Pool) -> None:
    async with audited_transaction(store_pool, an_act()) as session:
        await put_pin(session, PIN)
        assert await list_acts(store_pool) == [], "nobody sees the one before the other"
    [row] = await list_acts(store_pool)
    assert (row.actor, row.origin, row.verb, row.subject) == ("ann@here", "command line", "pin", "hardware cpu")
    assert (row.detail, row.outcome, row.error) == ({"minimum": 1}, AuditOutcome.DONE, "")
    assert abs(datetime.now(UTC) - row.at) < timedelta(minutes=10)


async def test_failed_act_is_rolled_back_and_recorded(store_pool: Pool) -> None:
    with pytest.raises(OperatorError):
        await pin_in_vain(store_pool)
    assert await list_pins(store_pool) == []
    assert await outcomes(store_pool) == [("pin", AuditOutcome.FAILED, "there is no such thing")]


async def pin_in_vain(pool: Pool) -> None:
    async with audited_transaction(pool, an_act()) as session:
        await put_pin(session, PIN)
        raise OperatorError("there is no such thing")


async def test_audited_records_act_before_it_begins(store_pool: Pool) -> None:
    async with audited(store_pool, an_act(AuditVerb.REGISTER)):
        assert await outcomes(store_pool) == [("register", AuditOutcome.BEGUN, "")]
    assert await outcomes(store_pool) == [("register", AuditOutcome.DONE, "")]
    with pytest.raises(ExceptionGroup):
        async with audited(store_pool, an_act(AuditVerb.UNREGISTER)):
            raise ExceptionGroup("of a task group", [OperatorError("it is used")])
    assert (await outcomes(store_pool))[0] == ("unregister", AuditOutcome.FAILED, "it is used")
    with pytest.raises(asyncio.CancelledError):
        async with audited(store_pool, an_act(AuditVerb.UNREGISTER)):
            raise asyncio.CancelledError
    assert (await outcomes(store_pool))[0] == ("unregister", AuditOutcome.BEGUN, "")


async def test_list_acts_filters_and_prune_deletes(store_pool: Pool) -> None:
    for actor, verb in (("ann@here", AuditVerb.PIN), ("bob@there", AuditVerb.PAUSE)):
        async with audited_transaction(store_pool, an_act(verb, "cpu" if verb is AuditVerb.PIN else "tpu, cpu", actor)):
            pass
    latest, first = await list_acts(store_pool)
    assert (first.actor, latest.actor) == ("ann@here", "bob@there")
    assert await list_acts(store_pool, actor="ann@here") == [first]
    assert await list_acts(store_pool, verb="pause") == [latest]
    assert await list_acts(store_pool, subject="gpu") == []
    assert await list_acts(store_pool, subject="cpu") == [latest, first]
    assert await list_acts(store_pool, subject="tpu, cpu") == [latest]
    assert await list_acts(store_pool, since=latest.at) == [latest]
    assert await list_acts(store_pool, until=latest.at) == [first]
    assert await list_acts(store_pool, limit=1) == [latest]
    assert await prune_acts(store_pool, latest.at) == 1
    assert await list_acts(store_pool) == [latest]
