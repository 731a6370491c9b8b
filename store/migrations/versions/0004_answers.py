"""Completions by needs class, beside the arrivals."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Change what `0004_answers.sql` says."""
    run_script("0004_answers")


def downgrade() -> None:
    """Not offered."""
    refuse_downgrade("what was answered")
