"""Tests of the output and exit code of `infaas register`."""

from contextlib import nullcontext

import pytest
import typer

from infaas.cli.output import EXIT_PARTIAL, EXIT_SETUP, usd
from infaas.cli.registered import show_registered
from schemas.rows.catalog import Variant, VariantState
from tests.store_rows import a_variant

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


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.0, "0 USD"),
        (12.0, "12 USD"),
        (0.25, "0.25 USD"),
        (0.00132, "0.0013 USD"),
        (0.000132, "130 µUSD"),
        (0.0000132, "13 µUSD"),
        (0.000000038, "38 nUSD"),
        (4.2e-11, "0.042 nUSD"),
    ],
)
def test_usd_has_two_digits_and_a_short_unit(amount: float, text: str) -> None:
    assert usd(amount) == text
