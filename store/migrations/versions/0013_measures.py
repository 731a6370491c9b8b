"""Measure and class names of a task, and the options of a registration."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Run `0013_measures.sql`."""
    run_script("0013_measures")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("what accuracies mean would be forgotten")
