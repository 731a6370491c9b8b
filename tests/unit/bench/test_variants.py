"""Tests of the page about the zoo's variants."""

from msgspec.structs import replace

from bench.variants import page
from registry.comparison import compare
from schemas.latency import BatchLatency
from schemas.rows.catalog import VariantState
from tests.example_rows import a_profile, a_variant


def test_page_compares_fastest_variant_with_registered_model() -> None:
    rows = {"mlp.onnx-fp32.cpu": (0.9, 4.0), "mlp.onnx-int8.cpu": (0.895, 1.0), "mlp.onnx-int4.cpu": (0.8, 0.5)}
    variants = [replace(a_variant(name), max_batch=16) for name in rows]
    profiles = {
        name: replace(
            a_profile(name),
            accuracy=accuracy,
            latency=tuple(BatchLatency(batch, batch * ms / 1000, batch * ms / 1000) for batch in (1, 16)),
        )
        for name, (accuracy, ms) in rows.items()
    }
    refused = replace(a_variant("mlp.onnx-int2.cpu", state=VariantState.REFUSED), reason="it is another model")
    text = page(compare(variants, profiles), [refused], "registered in a test")
    assert "| mlp | 4 ms, 64 ms | onnx-int8, onnx-int8 | 4.00x | 4.00x |" in text
    assert "| mlp.onnx-int4 | 80.00% | 0.5 |" in text
    assert "| mlp.onnx-int2.cpu | it is another model |" in text
    assert "variants/digits.png" in text
