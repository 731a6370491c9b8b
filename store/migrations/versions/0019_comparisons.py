"""Comparisons of versions on copies of queries."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Run `0019_comparisons.sql`."""
    run_script("0019_comparisons")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("what was compared would be forgotten")
