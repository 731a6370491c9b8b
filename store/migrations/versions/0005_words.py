"""Columns and tables renamed to the names that the code uses."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Run `0005_words.sql`."""
    run_script("0005_words")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("nothing but names")
