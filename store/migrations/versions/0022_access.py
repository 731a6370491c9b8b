"""Owners and visibility of tasks and models, and tenants of jobs."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0022"
down_revision = "0019"


def upgrade() -> None:
    """Run `0022_access.sql`."""
    run_script("0022_access")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("what is private would be everybody's")
