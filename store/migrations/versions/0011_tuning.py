"""Tuning of quantised variants."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Run `0011_tuning.sql`."""
    run_script("0011_tuning")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("how variants were calibrated would be forgotten")
