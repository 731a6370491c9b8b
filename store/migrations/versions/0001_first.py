"""First tables: registry, placement and samples."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Run `0001_first.sql`."""
    run_script("0001_first")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("what people registered")
