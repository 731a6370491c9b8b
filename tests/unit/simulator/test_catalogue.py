"""Tests of catalogue files: round trip, conversion and faults."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from schemas.errors import OperatorError
from schemas.latency import BatchLatency
from schemas.rows.catalog import VariantState
from simulator.catalogue import Catalogue, CatalogueHardware, CatalogueVariant, read_catalogue, write_catalogue

CPU = CatalogueHardware(
    name="cpu", price_per_hour=0.384, memory_bytes=32 << 30, slots=4, threads=2, start_s=30.0, maximum=3,
    runtimes=("onnx",), source="a test",
)  # fmt: skip
MLP = CatalogueVariant(
    name="mlp.onnx-fp32.cpu", task="digits", architecture="mlp", hardware="cpu", runtime="onnx", precision="fp32",
    max_batch=4, accuracy=0.9, load_s=0.5, memory_bytes=1 << 20, threads=2,
    latency=(BatchLatency(1, 0.003, 0.004), BatchLatency(4, 0.009, 0.012)), source="a test",
)  # fmt: skip
CATALOGUE = Catalogue(hardware=(CPU,), variants=(MLP, replace(MLP, name="mlp.onnx-int8.cpu", precision="int8")))


def test_catalogue_survives_file(tmp_path: Path) -> None:
    write_catalogue(CATALOGUE, tmp_path / "one.json")
    assert read_catalogue(tmp_path / "one.json") == CATALOGUE
    lines = (tmp_path / "one.json").read_text().splitlines()
    assert sum(line.startswith('{"name"') for line in lines) == 3


def test_catalogue_rows_have_profile_and_line() -> None:
    variants, profiles = CATALOGUE.rows()
    assert variants.keys() == profiles.keys() == {v.name for v in CATALOGUE.variants}
    assert variants[MLP.name].state is VariantState.READY
    found = profiles[MLP.name]
    assert (found.intercept_s, found.slope_s) == pytest.approx((0.001, 0.002))
    assert (found.threads, found.accuracy, found.latency) == (2, 0.9, MLP.latency)


def test_catalogue_hardware_types_keep_fields() -> None:
    [found] = CATALOGUE.hardware_types()
    for field in set(CPU.__struct_fields__) - {"source"}:
        assert getattr(found, field) == getattr(CPU, field)


def test_catalogue_of_hardware_has_its_variants_only() -> None:
    whole = Catalogue(
        hardware=(CPU, replace(CPU, name="t4")), variants=(MLP, replace(MLP, name="mlp.onnx-fp32.t4", hardware="t4"))
    )
    found = whole.of_hardware(["cpu"])
    assert ([one.name for one in found.hardware], found.variants) == (["cpu"], (MLP,))


def test_bounded_catalogue_keeps_other_maxima() -> None:
    whole = replace(CATALOGUE, hardware=(CPU, replace(CPU, name="t4")))
    assert [one.maximum for one in whole.bounded({"t4": 0}).hardware] == [3, 0]


def test_start_times_of_other_hardware_stay() -> None:
    whole = replace(CATALOGUE, hardware=(CPU, replace(CPU, name="t4")))
    assert [one.start_s for one in whole.starting({"t4": 90.0}).hardware] == [CPU.start_s, 90.0]


def document(**changes: Any) -> bytes:
    """Return a catalogue file; a change is a value by `<hardware|variants>__<field>` of the first entry, or a field."""
    plain = msgspec.to_builtins(CATALOGUE)
    for place, value in changes.items():
        part, _, field = place.partition("__")
        if field:
            plain[part][0][field] = value
        else:
            plain[part] = value
    return msgspec.json.encode(plain)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "this program reads version 1"),
        ({"hardware__name": "v100"}, "unknown hardware 'cpu'; known: v100"),
        ({"hardware__name": "V 100"}, "not a valid name"),
        ({"hardware__slots": 0}, r"slots"),
        ({"hardware": [msgspec.to_builtins(CPU)] * 2}, "hardware cpu is there 2 times"),
        ({"variants__name": "mlp.onnx-int8.cpu"}, "variant mlp.onnx-int8.cpu is there 2 times"),
        ({"variants__name": "mlp"}, "names of variants are"),
        ({"variants__latency": []}, "has no latencies"),
        ({"variants__latency": [{"batch": 1, "p50_s": 2.0, "p99_s": 1.0}]}, "p99_s not below"),
        ({"variants__latency": [{"batch": 0, "p50_s": 1.0, "p99_s": 1.0}]}, "batch sizes must ascend"),
        ({"variants__accuracy": 90}, "accuracy"),
        ({"variants__task": "letters"}, "belongs to the tasks letters and digits"),
        ({"variants__precison": "fp32"}, "unknown field `precison`"),
        ({"variants__source": ""}, "source"),
    ],
)
def test_read_catalogue_names_fault(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    (tmp_path / "wrong.json").write_bytes(document(**changes))
    with pytest.raises(OperatorError, match=words) as caught:
        read_catalogue(tmp_path / "wrong.json")
    assert "wrong.json" in str(caught.value)


def test_read_catalogue_names_missing_file() -> None:
    with pytest.raises(OperatorError, match="cannot read catalogue nowhere: No such file"):
        read_catalogue("nowhere")
