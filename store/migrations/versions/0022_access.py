"""Owners and permissions of tasks and models, and whose jobs are."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0022"
down_revision = "0019"


def upgrade() -> None:
    """Run `0022_access.sql`."""
    run_script("0022_access")


def downgrade() -> None:
    """Refuse to go back."""
    refuse_downgrade("what is private would be everybody's")
