"""Audit log of administrators' actions."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Run `0023_audit.sql`."""
    run_script("0023_audit")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("who did what would be forgotten")
