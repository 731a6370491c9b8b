"""Pins, pause, wanted numbers of workers, and drains."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Run `0002_fleet.sql`."""
    run_script("0002_fleet")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("what people pinned")
