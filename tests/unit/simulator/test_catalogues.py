"""Tests of the shipped catalogue: its derivation, the errors of its formula, and the order of its latencies."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise, permutations
from pathlib import Path
from statistics import median

import pytest
from msgspec.structs import asdict, replace

from schemas.latency import LatencyModel
from simulator.catalogue import SHIPPED, Catalogue, CatalogueVariant, format_catalogue, read_catalogue, shipped_names
from simulator.catalogues.derive import NAME, derive
from simulator.catalogues.fit import error_table, factors, fit, loss
from simulator.catalogues.latency_formula import FITTED, latency_s
from simulator.catalogues.tables import read_architectures, read_devices, read_published

PAGE = Path(__file__).parents[3] / "docs" / "catalogue.md"
ARCHITECTURES = read_architectures()


@pytest.fixture(scope="module")
def shipped() -> Catalogue:
    return read_catalogue(NAME)


def alike(catalogue: Catalogue) -> Iterable[list[CatalogueVariant]]:
    """Return the variants of each task, hardware and precision."""
    found = defaultdict[tuple[str, str, str], list[CatalogueVariant]](list)
    for variant in catalogue.variants:
        found[variant.task, variant.hardware, variant.precision].append(variant)
    return found.values()


def seconds(variant: CatalogueVariant, batch: int) -> float:
    return LatencyModel(variant.latency, variant.max_batch).batch_s(batch)


def test_derive_reproduces_shipped_file() -> None:
    assert format_catalogue(derive()) == (SHIPPED / f"{NAME}.json").read_text(encoding="utf-8")


def test_shipped_catalogue_covers_hardware_and_tasks(shipped: Catalogue) -> None:
    assert NAME in shipped_names()
    assert (len({v.architecture for v in shipped.variants}), len(shipped.variants)) == (44, 270)
    assert {h.name for h in shipped.hardware} == {"cpu", "v100", "t4", "a10g", "inf1"}
    assert len({v.task for v in shipped.variants}) == 7
    for variant in shipped.variants:
        published = ARCHITECTURES[variant.architecture]
        assert published.accuracy is not None
        assert 0.95 * published.accuracy < variant.accuracy <= published.accuracy + 1e-4
        assert published.source in variant.source


def test_shipped_variants_fit_on_hardware(shipped: Catalogue) -> None:
    memory = {h.name: h.memory_bytes for h in shipped.hardware}
    assert all(2 * variant.memory_bytes < memory[variant.hardware] for variant in shipped.variants)


# -- order -------------------------------------------------------------------------------------------------------------


def test_shipped_latency_grows_with_batch(shipped: Catalogue) -> None:
    for variant in shipped.variants:
        assert all(before.p50_s < after.p50_s for before, after in pairwise(variant.latency)), variant.name
        assert all(point.p50_s < point.p99_s < 1.5 * point.p50_s for point in variant.latency), variant.name


def test_shipped_latency_grows_with_work(shipped: Catalogue) -> None:
    for variants in alike(shipped):
        for small, large in permutations(variants, 2):
            less, more = ARCHITECTURES[small.architecture], ARCHITECTURES[large.architecture]
            if more.gmacs > less.gmacs and more.acts_m > less.acts_m:
                assert seconds(large, 8) > 0.6 * seconds(small, 8), f"{large.name} is faster than {small.name}"


def test_shipped_gpu_beats_cpu_at_large_batch(shipped: Catalogue) -> None:
    fp32 = {v.architecture: v for v in shipped.variants if (v.hardware, v.precision) == ("cpu", "fp32")}
    for variant in shipped.variants:
        if variant.hardware in ("v100", "t4", "a10g"):
            assert seconds(variant, 16) < seconds(fp32[variant.architecture], 16), variant.name


def test_shipped_int8_is_faster(shipped: Catalogue) -> None:
    plain = {(v.architecture, v.hardware): v for v in shipped.variants if v.precision != "int8"}
    for variant in shipped.variants:
        if variant.precision == "int8":
            assert seconds(variant, 4) < seconds(plain[variant.architecture, variant.hardware], 4), variant.name


# -- formula -----------------------------------------------------------------------------------------------------------


def test_formula_predicts_latencies_it_was_not_fitted_to() -> None:
    held_out = [row for row in read_published() if row.use == "test"]
    assert len(held_out) > 100
    assert not {(r.hardware, r.architecture, r.source) for r in held_out} & {
        (r.hardware, r.architecture, r.source) for r in read_published() if r.use == "fit"
    }
    on_gpus = factors(row for row in held_out if row.hardware in ("v100", "t4", "a10g"))
    assert median(on_gpus) < 1.2
    assert on_gpus[-1] < 2.0
    assert median(factors(held_out)) < 1.2


def test_formula_constants_are_those_fitted() -> None:
    rows = [row for row in read_published() if row.use == "fit"]
    assert asdict(fit(rows)) == pytest.approx(asdict(FITTED), rel=0.01)
    for name, value in asdict(FITTED).items():
        assert all(loss(rows, replace(FITTED, **{name: value * by})) > loss(rows, FITTED) for by in (0.8, 1.25)), name


def test_formula_rejects_precision_without_rate() -> None:
    with pytest.raises(ValueError, match="v100 does not compute in int8"):
        latency_s(ARCHITECTURES["resnet50"], read_devices()["v100"], "int8", 1)


@pytest.mark.parametrize(
    ("name", "layers", "width", "heads", "tokens"),
    [
        ("bert-mini", 4, 256, 4, 128), ("bert-medium", 8, 512, 8, 128), ("distilbert", 6, 768, 12, 128),
        ("bert-base", 12, 768, 12, 128), ("bert-large", 24, 1024, 16, 128), ("distilbert-squad", 6, 768, 12, 384),
        ("bert-base-squad", 12, 768, 12, 384), ("bert-large-squad", 24, 1024, 16, 384),
    ],
)  # fmt: skip
def test_encoder_operations_follow_configuration(name: str, layers: int, width: int, heads: int, tokens: int) -> None:
    found = ARCHITECTURES[name]
    products = 12 * width * width * tokens + 2 * width * tokens * tokens
    assert found.gmacs == pytest.approx(layers * products / 1e9, abs=1e-3)
    assert found.acts_m == pytest.approx(layers * (10 * width * tokens + heads * tokens * tokens) / 1e6, abs=1e-3)


# -- documentation -----------------------------------------------------------------------------------------------------


def test_page_states_errors_and_sources() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert error_table() in page
    cited = [*ARCHITECTURES.values(), *read_devices().values(), *read_published()]
    for row in cited:
        for source in row.source.split("; "):
            key = source.removeprefix("int8 ").removeprefix("activations ")
            assert key == "operations counted" or f"| `{key}` |" in page, key
