"""Jobs: stored queries and their results, which outlive the request."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Run `0017_jobs.sql`."""
    run_script("0017_jobs")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("jobs that wait, and the results of others")
