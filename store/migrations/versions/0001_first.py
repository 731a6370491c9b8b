"""The first tables: what is registered, what is placed where, and what was observed."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Run `0001_first.sql`."""
    run_script("0001_first")


def downgrade() -> None:
    """Refuse to go back."""
    refuse_downgrade("what people registered")
