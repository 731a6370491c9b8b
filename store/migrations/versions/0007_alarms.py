"""Alarms for topics that lost records or grew too large, and the health `lost`."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Run `0007_alarms.sql`."""
    run_script("0007_alarms")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("what was lost would be forgotten")
