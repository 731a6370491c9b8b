"""Corrections of profiles that workers observe in long-term operation."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Run `0016_corrections.sql`."""
    run_script("0016_corrections")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("predictions would be wrong again")
