"""Columns and tables get the names that the code has for them."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Change what `0005_words.sql` says."""
    run_script("0005_words")


def downgrade() -> None:
    """Not offered."""
    refuse_downgrade("nothing but names")
