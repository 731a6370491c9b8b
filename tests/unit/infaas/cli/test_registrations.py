"""Tests of the output and exit code of a finished registration."""

from contextlib import nullcontext

import pytest
import typer

from infaas.cli.output import EXIT_PARTIAL, EXIT_SETUP
from infaas.cli.registrations import show_registered
from schemas.rows.catalog import Variant, VariantState
from tests.example_rows import a_variant

READY = a_variant("mlp.onnx-fp32.cpu")
REFUSED = a_variant("mlp.onnx-int8dyn.cpu", state=VariantState.REFUSED)


@pytest.mark.parametrize(
    ("variants", "labels", "code"),
    [
        ([READY], (), 0),
        ([READY, REFUSED], (), 0),
        ([READY, REFUSED], ("onnx-int8dyn",), EXIT_PARTIAL),
        ([READY, REFUSED], ("onnx-fp32",), 0),
        ([REFUSED], (), EXIT_SETUP),
        ([], (), EXIT_SETUP),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_register_exit_code_tells_if_variants_are_ready(
    variants: list[Variant], labels: tuple[str, ...], code: int, as_json: bool
) -> None:
    ended = pytest.raises(typer.Exit) if code else nullcontext()
    with ended as raised:
        show_registered(variants, labels, as_json=as_json)
    assert raised is None or raised.value.exit_code == code
