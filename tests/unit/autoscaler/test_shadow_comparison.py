"""Tests of shadow comparison: results of a query by two versions are paired in any order, and compared."""

from collections.abc import Iterable
from typing import cast

import pytest
from msgspec.structs import replace

from autoscaler.record.shadow_comparison import ShadowComparer, comparison
from broker.kafka.types import Record
from schemas import headers as h
from schemas.catalog import Catalog
from schemas.result import Result, error_value
from schemas.versions import Rollout, VersionComparison
from store.errors import StoreConflict, StoreUnavailable
from store.pool import Pool
from tests.example_rows import a_task, an_architecture

CATALOG = Catalog(
    tasks={"digits": a_task()},
    architectures={"mlp": an_architecture(), "mlp-v2": replace(an_architecture("mlp-v2"), model="mlp", version=2)},
    rollouts={"mlp": Rollout(model="mlp", serving=1, candidate=2, shadow=0.5)},
)


def answered(version: str, *scores: float, query_id: str = "q", status: str = "ok", ms: float = 1.0) -> Result:
    data = ",".join(map(str, scores))
    value = b'{"model_name":"digits","outputs":[{"name":"y","datatype":"FP32","shape":[%d,2],"data":[%s]}]}' % (
        len(scores) // 2, data.encode(),
    )  # fmt: skip
    return Result(
        id=query_id, status=status, value=value if status == "ok" else error_value("no"),
        variant=f"{version}.onnx-fp32.cpu", compute_ns=int(ms * 1e6),
    )  # fmt: skip


def test_comparison_counts_agreement_of_classes() -> None:
    old = answered("mlp", 0.9, 0.1, 0.2, 0.8, ms=2)
    for one, other in ((answered("mlp-v2", 0.6, 0.4, 0.7, 0.3), old), (old, answered("mlp-v2", 0.6, 0.4, 0.7, 0.3))):
        assert comparison(CATALOG, one, other) == VersionComparison(
            model="mlp", version=2, against=1, compared=1, agreed=0.5, compute_s=0.001, against_compute_s=0.002
        )


def test_comparison_counts_failed_copy() -> None:
    found = comparison(CATALOG, answered("mlp-v2", status="model_failed"), answered("mlp", 0.9, 0.1))
    assert found is not None
    assert (found.compared, found.failed, found.agreed) == (1, 1, 0.0)


def test_comparison_of_text_and_numbers_disagrees() -> None:
    value = b'{"model_name":"digits","outputs":[{"name":"y","datatype":"%s","shape":[1],"data":[%s]}]}'
    one, other = (
        replace(answered(version, 0.9, 0.1), value=value % data)
        for version, data in (("mlp-v2", (b"BYTES", b'"a"')), ("mlp", (b"FP32", b"0.5")))
    )
    found = comparison(CATALOG, one, other)
    assert found is not None
    assert found.agreed == 0.0


@pytest.mark.parametrize("other", ["mlp-v2", "rest"])
def test_comparison_needs_two_versions_of_a_model(other: str) -> None:
    assert comparison(CATALOG, answered("mlp-v2", 0.9, 0.1), answered(other, 0.9, 0.1)) is None


def record(result: Result) -> Record:
    headers = [
        (h.ID, result.id.encode()), (h.STATUS, result.status.encode()), (h.VARIANT, result.variant.encode()),
        (h.COMPUTE_NS, b"%d" % result.compute_ns),
    ]  # fmt: skip
    return Record("t", 0, 0, 0, 0, None, result.value, tuple(headers))


async def test_shadow_comparer_limits_waiting_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoscaler.record.shadow_comparison._MOST_BYTES", 300)
    written, comparer = Written(monkeypatch), ShadowComparer()
    written.away = False
    for query_id in ("first", "second", "third"):  # more than 100 bytes each
        comparer.take(record(answered("mlp", *[0.9, 0.1] * 5, query_id=query_id)), CATALOG)
    for query_id in ("first", "third"):
        comparer.take(record(answered("mlp-v2", *[0.9, 0.1] * 5, query_id=query_id)), CATALOG)
    await comparer.write(cast(Pool, None))
    assert [one.compared for one in written.found] == [1]


async def test_shadow_comparer_drops_removed_version(monkeypatch: pytest.MonkeyPatch) -> None:
    written, comparer = Written(monkeypatch), ShadowComparer()
    written.gone, written.away = True, False
    for version in ("mlp", "mlp-v2"):
        comparer.take(record(answered(version, 0.9, 0.1)), CATALOG)
    await comparer.write(cast(Pool, None))
    written.gone = False
    await comparer.write(cast(Pool, None))
    assert written.found == []


class Written:
    """Replacement of the database: records the written comparisons, and is unreachable at first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[VersionComparison] = []
        self.gone = False
        self.away = True
        monkeypatch.setattr("autoscaler.record.shadow_comparison.add_comparisons", self.add)

    async def add(self, _pool: object, found: Iterable[VersionComparison]) -> None:
        if self.gone:
            raise StoreConflict("the version is gone")
        if self.away:
            raise StoreUnavailable("away")
        self.found += found


async def test_shadow_comparer_keeps_sums_while_postgres_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    written, comparer = Written(monkeypatch), ShadowComparer()
    pool = cast(Pool, None)
    for number in range(3):
        comparer.take(record(answered("mlp", 0.9, 0.1, query_id=f"q-{number}")), CATALOG)
        comparer.take(record(answered("mlp", 0.9, 0.1, query_id=f"q-{number}")), CATALOG)  # delivered again
    for number in (2, 0):
        comparer.take(record(answered("mlp-v2", 0.7, 0.3, query_id=f"q-{number}")), CATALOG)
    await comparer.write(pool)
    written.away = False
    comparer.take(record(answered("mlp-v2", 0.3, 0.7, query_id="q-1")), CATALOG)
    await comparer.write(pool)
    await comparer.write(pool)
    assert [(one.compared, one.agreed, one.version, one.against) for one in written.found] == [(3, 2.0, 2, 1)]
    comparer.take(Record("t", 0, 0, 0, 0, None, b"?", ()), CATALOG)
