"""Result of a registration: a table of its variants for people, JSON for programs, and the exit code."""

from collections.abc import Sequence

import typer

from infaas.cli.output import EXIT_PARTIAL, EXIT_SETUP, err, show, show_json, table
from schemas.rows.catalog import Variant, VariantState


def show_registered(variants: Sequence[Variant], labels: Sequence[str] = (), *, as_json: bool) -> None:
    """Print the ready and the refused variants, then call `check_ready`."""
    if as_json:
        show_json(variants)
    else:
        ready = sum(v.state is VariantState.READY for v in variants)
        refused = [(v.name, v.reason) for v in variants if v.state is VariantState.REFUSED]
        err.print(f"{ready} variant(s) ready; `infaas variants` shows the measurements")
        if refused:
            show(table(("refused", "reason"), refused))
    check_ready(variants, labels)


def check_ready(variants: Sequence[Variant], labels: Sequence[str] = ()) -> None:
    """Check that at least one variant is ready, and none of those named by `--variant` (`labels`) is refused.

    Raises:
        Exit: with code 1 if no variant is ready, with code 3 if a named one is refused.
    """
    if not any(v.state is VariantState.READY for v in variants):
        raise typer.Exit(EXIT_SETUP)
    if any(v.state is VariantState.REFUSED and label in v.name.split(".") for v in variants for label in labels):
        raise typer.Exit(EXIT_PARTIAL)
