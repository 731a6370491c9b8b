"""Latency by input length, besides latency by batch size."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Run `0012_lengths.sql`."""
    run_script("0012_lengths")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("what was measured of other lengths would be forgotten")
