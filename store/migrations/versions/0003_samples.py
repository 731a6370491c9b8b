"""Samples by time: fine ones, packed and kept for hours, and coarse ones, kept for weeks; both dropped by partition."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Run `0003_samples.sql`."""
    run_script("0003_samples")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("what was observed")
