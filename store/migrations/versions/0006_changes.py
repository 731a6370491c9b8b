"""Payloads for change notifications, and a table of changes for processes without a listening connection."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Run `0006_changes.sql`."""
    run_script("0006_changes")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("changes that are being read")
