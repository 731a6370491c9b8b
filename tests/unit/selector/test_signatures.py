"""Tests of signed queries: the tenant that a signature proves; old, replayed and redelivered queries."""

import pytest
from msgspec.structs import astuple, replace

from broker.kafka.types import Record
from process.security.signature import SigningKey, digest_of, rejected_upstream_proof, sign, system_key, tenant_key
from schemas import headers as h
from schemas.errors import Forbidden, InvalidRequest
from selector.admission.received_query import QueryReader, TenantHeaders
from selector.admission.signatures import Replayed, Verifier

SECRET = b"s" * 32
ACME, GLOBEX = tenant_key(SECRET, "acme", 3), tenant_key(SECRET, "globex", 1)
AT_MS = 1_700_000_000_000
MODES = list(TenantHeaders)


def reader(headers: TenantHeaders = TenantHeaders.REFUSED, secret: bytes | None = SECRET) -> QueryReader:
    verifier = Verifier(secret)
    verifier.key_numbers = {"acme": 3, "globex": 1, "nokey": 0}
    return QueryReader(headers, verifier)


def signed(
    key: SigningKey, *, at_ms: int = AT_MS, offset: int = 7, topic: str = "infaas.tasks.digits", **fields: str
) -> Record:
    named = {h.ID: "1"} | {name.replace("_", "-"): text for name, text in fields.items()}
    named[h.SIGNATURE] = sign(key, "digits", named, b"{}", at_ms)
    headers = tuple((name, text.encode()) for name, text in named.items())
    return Record(topic, 1, offset, AT_MS, 0, b"k", b"{}", headers)


@pytest.mark.parametrize("mode", MODES)
def test_signature_proves_its_tenant(mode: TenantHeaders) -> None:
    for record in (signed(ACME), signed(ACME, infaas_tenant="acme", offset=8)):
        query, fields, headers, *_ = astuple(reader(mode).read(record, 0.0))
        assert (query.tenant, fields[h.TENANT], dict(headers)[h.TENANT]) == ("acme", "acme", b"acme")
    assert reader(mode).read(signed(system_key(SECRET), infaas_tenant="anybody"), 0.0).query.tenant == "anybody"
    assert reader(mode).read(signed(system_key(SECRET)), 0.0).query.tenant is None


def test_proved_tenant_is_known_after_reading() -> None:
    right, wrong = signed(ACME, infaas_tenant="acme"), signed(GLOBEX, infaas_tenant="acme", offset=8)
    one = reader()
    one.read(right, 0.0)
    assert [one.proved_tenant(record) for record in (right, wrong)] == ["acme", ""]
    unsigned = replace(right, headers=((h.TENANT, b"acme"),))
    assert reader(TenantHeaders.BELIEVED).proved_tenant(unsigned) == ""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("key", "named"),
    [
        (ACME, "globex"),
        (tenant_key(SECRET, "acme", 2), "acme"),
        (tenant_key(SECRET, "nokey", 0), "nokey"),
        (tenant_key(SECRET, "unknown", 1), "unknown"),
        (tenant_key(b"o" * 32, "acme", 3), "acme"),
        (SigningKey("globex.1", ACME.secret), "globex"),
        (SigningKey("system", ACME.secret), "globex"),
    ],
)
def test_signature_for_another_tenant_is_refused(mode: TenantHeaders, key: SigningKey, named: str) -> None:
    with pytest.raises(Forbidden):
        reader(mode).read(signed(key, infaas_tenant=named), 0.0)


def test_signature_without_secret_is_refused() -> None:
    with pytest.raises(Forbidden, match="INFAAS_SIGNING_SECRET is not set"):
        reader(TenantHeaders.BELIEVED, None).read(signed(ACME), 0.0)


@pytest.mark.parametrize("away_ms", [-301_000, 301_000])
def test_signature_from_another_time_is_refused(away_ms: int) -> None:
    with pytest.raises(Forbidden, match="301 s before or after"):
        reader().read(signed(ACME, at_ms=AT_MS + away_ms), 0.0)


def test_signature_replay_is_refused_but_not_redelivery() -> None:
    one = reader()
    first, again = signed(ACME), signed(ACME, offset=8)
    for _ in range(2):
        assert one.read(first, 0.0).query.tenant == "acme"
    with pytest.raises(Replayed):
        one.read(again, 0.0)
    assert one.read(signed(ACME, at_ms=AT_MS + 1, offset=9), 0.0).query.id == "1"
    assert reader().read(again, 0.0).query.tenant == "acme"


@pytest.mark.parametrize(
    "topic", ["infaas.replies.gateway-1", "infaas.jobs", "infaas.results.digits", "infaas.tenants.globex.results", "x"]
)
def test_signed_query_is_answered_in_own_topics(topic: str) -> None:
    own, one = "infaas.tenants.acme.results", reader()
    assert one.read(signed(ACME, infaas_reply_to=own), 0.0).query.reply_to == own
    query, fields, headers, *_ = astuple(one.read(signed(ACME, offset=8), 0.0))
    assert (query.reply_to, fields[h.REPLY_TO], dict(headers)[h.REPLY_TO]) == (own, own, own.encode())
    asked = signed(ACME, infaas_reply_to=topic, offset=9)
    with pytest.raises(Forbidden, match=r"begin with infaas\.tenants\.acme\.") as refused:
        one.read(asked, 0.0)
    told = one.unreadable_reply(asked, refused.value)
    assert told is not None
    assert told.topic == own
    assert one.proved_tenant(asked) == "", "sent again it would be signed by the system, which may name any topic"


def test_system_signature_allows_any_reply_topic() -> None:
    for number, topic in enumerate(("infaas.replies.gateway-1", "infaas.jobs", "infaas.tenants.acme.results")):
        asked = signed(system_key(SECRET), infaas_tenant="acme", infaas_reply_to=topic, offset=number)
        assert reader().read(asked, 0.0).query.reply_to == topic


@pytest.mark.parametrize("topic", ["", "infaas.tenants.acme.replies.me"])
def test_unreadable_reply_of_signer_uses_own_topics(topic: str) -> None:
    told = reader().unreadable_reply(signed(ACME, infaas_reply_to=topic), InvalidRequest("no"))
    assert told is not None
    assert told.topic == (topic or "infaas.tenants.acme.results")


def test_unreadable_reply_to_void_key_needs_correlation() -> None:
    """A void key proves nothing: a reader that pairs by id alone gets no error, or anyone could fail its queries."""
    void = tenant_key(SECRET, "acme", 2)
    for reply_to, told_at in (
        ("infaas.tenants.acme.replies.client-1", "infaas.tenants.acme.replies.client-1"),
        ("infaas.tenants.acme.results", None),
    ):
        asked = signed(void, infaas_reply_to=reply_to)
        with pytest.raises(Forbidden) as refused:
            reader().read(asked, 0.0)
        told = reader().unreadable_reply(asked, refused.value)
        assert (None if told is None else told.topic) == told_at


def test_forged_query_is_not_hashed_again_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    forged, digest = signed(tenant_key(b"o" * 32, "acme", 3), infaas_reply_to="replies"), digest_of(b"{}")

    def hashed_again(_value: bytes | None) -> str:
        pytest.fail("hashed again")

    monkeypatch.setattr("selector.admission.signatures.digest_of", hashed_again)
    with pytest.raises(Forbidden) as told:
        reader().read(forged, 0.0, digest)
    answer = reader().unreadable_reply(forged, told.value)
    assert answer is not None
    assert answer.topic == "replies"


async def test_moved_query_is_signed_for_later_reading() -> None:
    record = signed(ACME, topic="infaas.tasks.digits.offline")
    query, _fields, headers, value, *_ = astuple(reader().read(record, 0.0, offline=True))
    assert query.needs.mode == "offline"
    unsigned = [pair for pair in headers if pair[0] != h.SIGNATURE]
    moved = await reader().verifier.sign(query, unsigned, value, AT_MS + 9_000)
    again = replace(record, offset=9, timestamp=AT_MS + 9_000, headers=tuple(moved))
    assert reader().read(again, 0.0, offline=True).query.tenant == "acme"


async def test_moved_queries_of_one_ms_are_no_replays() -> None:
    one, headers = reader(), [(h.ID, b"1"), (h.TENANT, b"acme")]
    query = one.read(signed(ACME), 0.0).query
    for offset in range(3):
        moved = await one.verifier.sign(query, headers, b"{}", AT_MS)
        record = replace(signed(ACME), topic="infaas.tasks.digits.offline", offset=offset, headers=tuple(moved))
        assert one.read(record, 0.0, offline=True).query.tenant == "acme"


def test_ingress_topic_ignores_signatures() -> None:
    record = signed(GLOBEX, topic="infaas.ingress.acme", infaas_task="digits")
    query, _fields, headers, *_ = astuple(reader().read(record, 0.0))
    assert (query.tenant, h.SIGNATURE in dict(headers)) == ("acme", False)


SYSTEM_SECRET = b"of the system, in Postgres, 32 b"


@pytest.mark.parametrize("key", [ACME, system_key(SECRET)])
def test_signature_does_not_prove_refusal_count(key: SigningKey) -> None:
    counting = reader()
    counting.verifier = Verifier(SECRET, system_secret=SYSTEM_SECRET)
    counting.verifier.key_numbers = {"acme": 3}
    sent_ns, count = f"{AT_MS}000000", "7"
    proof = rejected_upstream_proof(SYSTEM_SECRET, "digits", "1", sent_ns, count)
    said = {"infaas_sent_ns": sent_ns, "infaas_rejected_upstream": count}
    wrong = rejected_upstream_proof(SECRET, "digits", "1", sent_ns, count)
    for offset, more in enumerate(({}, {"infaas_x_rejected_upstream_proof": wrong})):
        record = signed(key, at_ms=AT_MS + offset, offset=offset, **said, **more)
        assert counting.read(record, 0.0).query.rejected_upstream == 0
    proved = said | {"infaas_x_rejected_upstream_proof": proof}
    record = signed(key, at_ms=AT_MS + 2, offset=2, **proved)
    assert [counting.read(record, 0.0).query.rejected_upstream for _ in range(2)] == [7, 7], (
        "delivered again, it is the same"
    )
    elsewhere = signed(key, at_ms=AT_MS + 3, offset=3, **proved)
    assert counting.read(elsewhere, 0.0).query.rejected_upstream == 0, "written again, it is another query's"
    late = replace(signed(key, at_ms=AT_MS + 4, offset=4, **proved), timestamp=AT_MS + 60_001)
    assert counting.read(late, 0.0).query.rejected_upstream == 0
