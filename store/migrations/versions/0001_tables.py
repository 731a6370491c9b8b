"""All tables."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0001_tables"
down_revision = None


def upgrade() -> None:
    """Run `0001_tables.sql`."""
    run_script("0001_tables")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade()
