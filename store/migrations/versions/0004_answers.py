"""Answered queries by load class, besides the received ones."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run `0004_answers.sql`."""
    run_script("0004_answers")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("what was answered")
