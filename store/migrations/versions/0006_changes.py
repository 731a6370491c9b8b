"""Changes say what changed, and can be read by who does not listen."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Run `0006_changes.sql`."""
    run_script("0006_changes")


def downgrade() -> None:
    """Refuse to go back."""
    refuse_downgrade("changes that are being read")
