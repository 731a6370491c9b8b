"""Jobs: queries that outlive who asked them, and their results."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Run `0017_jobs.sql`."""
    run_script("0017_jobs")


def downgrade() -> None:
    """Refuse to go back."""
    refuse_downgrade("jobs that wait, and the results of others")
