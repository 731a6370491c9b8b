"""What a person and the autoscaler want of the workers: pins, pause, counts, drains."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Run `0002_fleet.sql`."""
    run_script("0002_fleet")


def downgrade() -> None:
    """Refuse to go back."""
    refuse_downgrade("what people pinned")
